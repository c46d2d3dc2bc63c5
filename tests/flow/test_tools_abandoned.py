"""Calls that change something, when nobody is left to see their end: done or not, the record says which."""

import asyncio

import pytest

from service.errors import Cause
from telemetry import catalogue as rows
from tests.flow.approvals import asking, decide, waiting
from tests.flow.tools import Recorder
from tests.support import proof_count


def test_when_the_client_has_gone_a_call_that_waited_never_runs_and_cannot_be_approved():
    inside = Recorder()

    async def scenario(house, model):
        client = house.client()
        task = house.connect(client)
        stored = await waiting(house)
        client.leave()
        await task
        assert (await house.store.call(stored.call_id)).state == "denied"
        assert await house.store.decide_call(stored, approve=True, who="lead") == "too_late"
        assert house.recorder.value(rows.TOOL_CALLS_TOTAL, "act", "cancelled") == 1
        assert house.requests("cancelled") == 1
        assert not inside.begun

    asking(scenario, inside)


def test_a_side_effect_that_runs_when_the_client_leaves_is_awaited_and_its_result_recorded():
    inside = Recorder(seconds=2.0)

    async def scenario(house, model):
        client = house.client()
        task = house.connect(client)
        stored = await decide(house)
        await house.until(lambda: inside.running)
        client.leave()
        await task
        kept = await house.store.call(stored.call_id)
        assert (kept.state, kept.result) == ("completed", '{"done": "C-1042"}')
        assert inside.done.total() == 1
        assert (await house.message()).status == "cancelled"
        assert house.requests("cancelled") == 1
        assert house.recorder.value(rows.TOOL_CALLS_TOTAL, "act", "completed") == 1

    asking(scenario, inside)


def test_a_side_effect_that_runs_over_its_time_is_indeterminate_and_shown_so():
    inside = Recorder(seconds=60.0)

    async def scenario(house, model):
        client = house.client()
        task = house.connect(client)
        await decide(house)
        await task
        completed = client.event("tool_call_completed")
        assert completed["status"] == "indeterminate"
        assert (await house.message()).tool_calls[0]["status"] == "indeterminate"
        assert house.recorder.value(rows.TOOL_CALLS_TOTAL, "act", "indeterminate") == 1
        assert house.recorder.logged(rows.LOG_TOOL_INDETERMINATE)
        assert "not known" in model.told[0]["error"]

    asking(scenario, inside)


@pytest.mark.parametrize("seed", range(proof_count(60, 1000)))
def test_whenever_a_client_leaves_the_side_effect_happened_exactly_where_the_call_says_so(seed):
    """Leaves, or is cancelled, at a moment drawn from the seed, around a decision at another such moment."""
    inside = Recorder(seconds=0.05)

    async def scenario(house, model):
        chance = house.world.random
        client = house.client()
        task = house.connect(client)
        if chance.random() < 0.5:
            client.leave_in(chance.uniform(0.0, 0.2))
        else:
            asyncio.get_running_loop().call_later(chance.uniform(0.0, 0.2), cancel, house)
        deciding = asyncio.create_task(decide_at(house, chance.uniform(0.0, 0.15)))
        await task
        await deciding
        kept = house.driver._db.execute("SELECT state FROM tool_calls").fetchall()
        states = [state for (state,) in kept]
        assert inside.done.total() == inside.begun.total() == states.count("completed")
        assert set(states) <= {"completed", "denied"}

    def cancel(house):
        for turn in house.parts.live:
            turn.cancel(Cause.CLIENT_CANCEL)

    async def decide_at(house, moment):
        await asyncio.sleep(moment)
        for stored in await house.store.pending_calls("demo"):
            await house.store.decide_call(stored, approve=True, who="lead")
            house.toolbox.approvals.wake(stored.call_id)

    asking(scenario, inside, seed=seed)
