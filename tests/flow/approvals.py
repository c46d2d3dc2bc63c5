"""A tool that a human decides on: the call that waits, and the decision."""

from tests.flow.house import in_house
from tests.flow.tools import Asks, call


def asking(scenario, inside, *, seed=0, rounds=None, **more):
    """Run `scenario(house, model)` with a tool that needs approval, for which the model asks."""

    async def with_model(house):
        model = Asks(*(rounds or [[call()]]))
        house.routes.add("simulated", model)
        return await scenario(house, model)

    return in_house(with_model, seed=seed, tools=[inside.tool(approval=True)], **more)


async def waiting(house):
    """The one call that waits for an approval, as soon as it does."""
    pending = house.toolbox.approvals
    await house.until(lambda: pending.waiting)
    (stored,) = await house.store.pending_calls("demo")
    return stored


async def decide(house, *, approve=True, wake=True):
    stored = await waiting(house)
    verdict = await house.store.decide_call(stored, approve=approve, who="lead")
    assert verdict == "decided"
    if wake:
        house.toolbox.approvals.wake(stored.call_id)
    return stored
