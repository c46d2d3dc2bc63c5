"""A model that fails again and again is not asked for a while, and whoever asks for it is told so at once."""

import asyncio

import pytest

from service.errors import ProviderFailure
from service.ports import Finish, Text
from service.providers.failures import from_status
from service.providers.rows import ProviderRow
from service.runtime.circuit import FIRST_REST, State
from telemetry import catalogue as rows
from tests.flow.house import ROUTE, in_house
from tests.flow.parts import Says

WELL = (Text("All is well."), Finish("stop"))
ONE_ATTEMPT = {"max_attempts": 1}


async def fail(house, times, how=None, **client):
    """Have `times` turns fail."""
    house.model._model = Says(*(how or (from_status(500),)))
    for _ in range(times):
        await house.chat(**client)


def state(house, provider="simulated"):
    return house.recorder.value(rows.PROVIDER_CIRCUIT_STATE, provider)


def test_after_twenty_failures_a_request_is_refused_at_once_with_503_and_when_to_come_again():
    async def scenario(house):
        await fail(house, 20)
        assert state(house) == State.OPEN
        before = len(house.model.calls)
        client = await house.chat()
        assert len(house.model.calls) == before, "nobody was asked"
        return client, house

    client, house = in_house(scenario, row=ONE_ATTEMPT)
    assert client.status == 503
    assert client.problem["code"] == "provider_error"
    assert 1 <= int(client.answer_headers["retry-after"]) <= FIRST_REST
    assert house.recorder.value(rows.REJECTIONS_TOTAL, ROUTE, "provider_unavailable") == 1
    assert [line["state"] for line in house.recorder.logged(rows.LOG_CIRCUIT)] == ["open"]


def test_retries_count_as_attempts_and_end_when_the_circuit_opens():
    async def scenario(house):
        await fail(house, 7)
        return house

    house = in_house(scenario)
    assert len(house.model.calls) == 20
    assert house.recorder.value(rows.PROVIDER_RETRIES_DENIED_TOTAL, "simulated", "circuit") == 1
    assert house.recorder.value(rows.PROVIDER_RETRIES_DENIED_TOTAL, "simulated", "attempts") == 6


@pytest.mark.parametrize(
    "how",
    [(from_status(429),), (from_status(400),), (from_status(422),)],
    ids=["too many requests", "a wrong request", "one that cannot be processed"],
)
def test_what_says_nothing_of_the_provider_s_health_does_not_open_it(how):
    async def scenario(house):
        await fail(house, 30, how)
        return state(house)

    assert in_house(scenario, row=ONE_ATTEMPT) == State.CLOSED


@pytest.mark.parametrize(
    "how",
    [(ProviderFailure("connect", retry_safe=True),), (60.0,), (Text("So "), 60.0), (from_status(401),)],
    ids=["no connection", "no first token", "silence after one", "our key refused"],
)
def test_what_a_provider_does_that_is_ill_opens_it(how):
    async def scenario(house):
        house.model._model = Says(*how)
        turns = [house.connect(house.client(session=f"s{n}")) for n in range(25)]
        await asyncio.wait(turns)
        return state(house)

    assert in_house(scenario, row=ONE_ATTEMPT) == State.OPEN


def test_clients_that_leave_or_have_no_patience_do_not_open_it():
    async def scenario(house):
        house.model._model = Says(60.0)
        for n in range(30):
            client = house.client(session=f"s{n}")
            client.leave_in(0.5)
            await house.connect(client)
            await house.chat(headers={"x-request-timeout-ms": "400"})
        return state(house)

    assert in_house(scenario) == State.CLOSED


def test_long_answers_that_are_cut_at_the_generation_budget_do_not_open_it():
    async def scenario(house):
        turns = [house.connect(house.client(session=f"s{n}", model="sim:tokens=100000")) for n in range(30)]
        await asyncio.wait(turns)
        assert house.recorder.value(rows.TIMEOUTS_TOTAL, "model.total") == 30
        return state(house)

    assert in_house(scenario) == State.CLOSED


def test_it_closes_again_once_three_probes_were_answered():
    async def scenario(house):
        await fail(house, 20)
        await asyncio.sleep(FIRST_REST)
        house.model._model = Says(0.1, *WELL)
        probes = [house.client(session=f"s{n}") for n in range(3)]
        await asyncio.wait([house.connect(client) for client in probes])
        assert [client.types[-1] for client in probes] == ["message_completed"] * 3
        assert state(house) == State.CLOSED
        return [line["state"] for line in house.recorder.logged(rows.LOG_CIRCUIT)]

    assert in_house(scenario, row=ONE_ATTEMPT) == ["open", "half_open", "closed"]


def test_while_it_is_half_open_only_the_probes_are_let_through():
    async def scenario(house):
        await fail(house, 20)
        await asyncio.sleep(FIRST_REST)
        house.model._model = Says(1.0, *WELL)
        before = len(house.model.calls)
        clients = [house.client(session=f"s{n}") for n in range(10)]
        await asyncio.wait([house.connect(client) for client in clients])
        assert len(house.model.calls) == before + 3
        return clients

    clients = in_house(scenario, row=ONE_ATTEMPT)
    told = [client.problem["code"] if client.status == 503 else client.types[-1] for client in clients]
    assert told.count("message_completed") == 3
    ended = [client for client in clients if client.status == 200 and client.types[-1] == "error"]
    assert all(client.event("error")["code"] == "provider_error" for client in ended)


def test_a_probe_whose_client_leaves_lets_another_be_made():
    async def scenario(house):
        await fail(house, 20)
        await asyncio.sleep(FIRST_REST)
        house.model._model = Says(2.0, *WELL)
        leaving = [house.client(session=f"s{n}") for n in range(3)]
        for client in leaving:
            client.leave_in(0.5)
        await asyncio.wait([house.connect(client) for client in leaving])
        assert state(house) == State.HALF_OPEN
        client = await house.chat()
        assert client.types[-1] == "message_completed"

    in_house(scenario, row=ONE_ATTEMPT)


def test_one_model_of_a_provider_may_be_ill_while_the_other_answers():
    async def scenario(house):
        house.model._model = Says(from_status(500))
        for _ in range(20):
            await house.chat(model="large")
        house.model._model = Says(*WELL)
        assert (await house.chat(model="large")).status == 503
        assert (await house.chat(model="small")).types[-1] == "message_completed"
        assert state(house, "up") == State.OPEN, "the metric shows the worst"

    in_house(scenario, rows=(ProviderRow("up", "openai_compatible", ("small", "large"), max_attempts=1),))


def test_what_one_client_makes_the_simulated_model_do_is_not_another_s_fault():
    async def scenario(house):
        for _ in range(20):
            await house.chat(model="sim:status=500")
        assert (await house.chat(model="sim:status=500")).status == 503
        assert (await house.chat(model="sim")).types[-1] == "message_completed"

    in_house(scenario, row=ONE_ATTEMPT)
