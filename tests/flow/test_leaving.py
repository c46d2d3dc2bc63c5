"""A client that leaves, at every moment of its turn: the turn ends once, and nothing is left of it."""

import asyncio

import pytest

from telemetry import catalogue as rows
from telemetry.catalogue import Attr
from tests.flow.house import ROUTE, in_house
from tests.support import proof_count

LONG = "sim:ttft_ms=500,tokens=100,interval_ms=20"

# where it leaves: (how the house is, when it leaves in seconds, counted as, whether the turn had been admitted)
MOMENTS = {
    "before the body is in": ({"body_delay": 1.0}, 0.5, "input.validation", False),
    "while the policy is asked": ({"policy": 0.1}, 0.05, "policy.check", False),
    "while the context is loaded": ({"history": 0.25}, 0.2, "context.load", False),
    "while it waits for a place": ({"places": 0}, 0.5, "admission", False),
    "during the retrieval": ({"retriever": 1.0}, 0.5, "retrieval.query", True),
    "before the first token": ({}, 0.3, "model.first_token", True),
    "in the middle of the answer": ({}, 1.0, "model.tokens", True),
    "while the queue is full": ({"pause": 0.5, "interval": 0}, 0.8, "model.tokens", True),
    "while the answer is stored": ({"end_turn": 0.2}, 0.6, "state.persist", True),
}


def prepared(house, how, *, tokens=100):
    """Set the house up for a moment and return its client."""
    how = dict(how)
    house.policy.becomes(how.pop("policy", 0.0), only="scope")
    house.retriever.becomes(how.pop("retriever", 0.0))
    if "places" in how:
        house.gates["requests"].set_limit(how.pop("places"))
    for method in ("history", "end_turn"):
        if method in how:
            house.store.becomes(how.pop(method), only=method)
            tokens = 1 if method == "end_turn" else tokens
    interval = how.pop("interval", 20)
    return house.client(model=f"sim:ttft_ms=500,tokens={tokens},interval_ms={interval}", **how)


@pytest.mark.parametrize("moment", MOMENTS)
def test_a_client_that_leaves_cancels_its_turn_and_frees_all_it_held(moment):
    how, when, where, admitted = MOMENTS[moment]

    async def scenario(house):
        client = prepared(house, how)
        client.leave_in(when)
        await house.connect(client)
        assert asyncio.get_running_loop().time() < when + 0.3
        seen = house.recorder
        assert house.requests("cancelled") == 1
        assert seen.value(rows.CANCELLATIONS_TOTAL, ROUTE, "client_disconnect", where) == 1
        assert seen.value(rows.CLIENT_DISCONNECTS_TOTAL, ROUTE, where) == admitted
        assert seen.value(rows.CLIENT_DISCONNECTS_TOTAL) == admitted
        assert seen.value(rows.CANCEL_LATENCY_SECONDS) == 1
        assert seen.value(rows.STREAM_ERRORS_TOTAL) == seen.value(rows.TIMEOUTS_TOTAL) == 0
        assert house.statuses() == ({"cancelled": 1} if admitted else {})
        facts = seen.span("POST /chat/stream")["attributes"]
        assert facts[Attr.REQUEST_CAUSE] == "client_disconnect"
        assert facts[Attr.REQUEST_DECIDED_BY] == ("model.stream" if where.startswith("model.") else where)
        cut = [one["name"] for one in seen.spans if one["attributes"].get(Attr.OUTCOME) == "cancelled"]
        assert where.partition(".")[0] in {name.partition(".")[0] for name in cut} | {"input"}
        assert all(one["status"] == "UNSET" for one in seen.spans)

    in_house(scenario, stream_queue=4)


def test_the_first_token_that_never_came_is_counted_as_missed():
    async def scenario(house):
        client = house.client(model=LONG)
        client.leave_in(0.3)
        await house.connect(client)
        assert house.recorder.value(rows.FIRST_TOKEN_MISSED_TOTAL, ROUTE, "client_left") == 1
        assert house.recorder.value(rows.TIME_TO_FIRST_TOKEN_SECONDS) == 0
        assert house.recorder.value(rows.PROVIDER_REQUESTS_TOTAL, "simulated", "cancelled") == 1

    in_house(scenario)


def test_what_was_said_until_the_client_left_is_kept_as_partial_text():
    async def scenario(house):
        client = house.client(model=LONG)
        client.leave_in(1.0)
        await house.connect(client)
        assert (await house.message()).text.startswith(client.text)
        assert client.text

    in_house(scenario)


def test_a_client_that_leaves_after_the_commit_leaves_a_completed_turn_and_only_its_leaving_is_counted():
    async def scenario(house):
        client = house.client(model="sim:ttft_ms=0,interval_ms=1,tokens=50", pause=0.5)
        task = house.connect(client)
        await house.until(lambda: house.statuses() == {"completed": 1})
        await asyncio.sleep(0.01)
        assert "message_completed" not in client.types
        client.leave()
        await task
        assert house.requests("completed") == 1
        assert house.recorder.value(rows.CLIENT_DISCONNECTS_TOTAL, ROUTE, "stream.emit") == 1
        assert house.recorder.value(rows.CANCELLATIONS_TOTAL) == 0
        assert (await house.message()).status == "completed"

    # The seed wakes who waits for the client before who writes to it, as uvicorn does.
    in_house(scenario, stream_queue=100, seed=1)


def test_a_client_that_leaves_while_the_commit_is_on_its_way_is_told_by_the_commit():
    """Executed, and not yet known: too late to withdraw, so that the turn is complete once the commit is."""

    async def scenario(house):
        client = house.client(model="sim:tokens=3,interval_ms=100")
        task = house.connect(client)
        await house.until(lambda: client.text)
        house.conditions.commit = 0.2
        await house.until(lambda: house.statuses() == {"completed": 1}, step=0.0001)  # seen on the same connection
        assert not house.turn.committed
        client.leave()
        await task
        assert house.requests("completed") == 1
        assert house.recorder.value(rows.CANCELLATIONS_TOTAL) == 0
        assert house.recorder.value(rows.CLIENT_DISCONNECTS_TOTAL, ROUTE, "state.persist") == 1

    in_house(scenario)


@pytest.mark.parametrize("moment", [*MOMENTS, "after the commit"])
def test_whenever_within_that_moment_a_client_leaves_nothing_is_left_of_its_turn(moment):
    how, when, *_ = MOMENTS.get(moment, ({"pause": 0.1, "interval": 0}, 1.0))

    async def scenario(house):
        draw = house.world.random
        for _ in range(10):
            client = prepared(house, how, tokens=30)
            client.leave_in(when * draw.uniform(0.5, 1.5) if draw.random() < 0.8 else draw.uniform(0, 2))
            async with asyncio.timeout(30):
                await house.connect(client)
            house.assert_at_rest()

    for seed in range(proof_count(10, 200)):
        in_house(scenario, seed=seed, stream_queue=4)
