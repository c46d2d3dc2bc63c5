"""Turns whose model asks for tools, round by round."""

from tests.flow.house import in_house
from tests.flow.tools import Asks


def asking(scenario, *rounds, tools=(), more=None):
    """Run `scenario(house, model)` with a model that asks for the calls of each round."""

    async def with_model(house):
        model = Asks(*rounds)
        house.routes.add("simulated", model)
        return await scenario(house, model)

    return in_house(with_model, tools=tools, **(more or {}))


def of(client, kind):
    return [data for this, data in client.events if this == kind]
