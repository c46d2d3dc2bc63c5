"""What every state database must give back of a finished turn to those who judge it."""

import asyncio

import pytest

from tests.contract.stores import NOW, Bench, ending, new_turn
from tests.contract.test_tool_calls import new_call

OWNER = ("acme", "ann")


def test_a_finished_turn_is_its_question_its_answer_its_events_and_the_results_of_its_tools(database):
    async def scenario(bench: Bench) -> None:
        store = bench.store
        for number in (1, 2):
            await store.begin_turn(new_turn(number))
            await store.end_turn(ending(number, events=f'[[0, "x", {{"n": {number}}}]]'))
        for call_id, state in (("c1", "completed"), ("c2", "failed"), ("c3", "running")):
            await store.claim_call(new_call(call_id=call_id, key=call_id, message_id="a2"))
            if state != "running":
                await store.advance_call(call_id, ("running",), state, result=f'"{call_id}"')
        turn = await store.jobs.finished_turn(*OWNER, "a2")
        assert (turn.question, turn.answer, turn.events) == ("question 2", "answer 2", '[[0, "x", {"n": 2}]]')
        assert turn.results == ('"c1"',)
        assert (await store.jobs.finished_turn(*OWNER, "a1")).results == ()

    database.run(scenario)


@pytest.mark.parametrize("status", ["streaming", "cancelled", "failed", "timed_out"])
def test_what_did_not_complete_is_no_finished_turn(database, status):
    async def scenario(bench: Bench) -> None:
        await bench.store.begin_turn(new_turn(1))
        if status != "streaming":
            await bench.store.end_turn(ending(1, status=status))
        assert await bench.store.jobs.finished_turn(*OWNER, "a1") is None

    database.run(scenario)


def test_a_finished_turn_is_its_users_alone_and_a_question_is_none(database):
    async def scenario(bench: Bench) -> None:
        await bench.store.begin_turn(new_turn(1))
        await bench.store.end_turn(ending(1))
        for who in (("acme", "ben"), ("rival", "ann")):
            assert await bench.store.jobs.finished_turn(*who, "a1") is None
        for message_id in ("q1", "a9", "", "a1' OR '1'='1"):
            assert await bench.store.jobs.finished_turn(*OWNER, message_id) is None

    database.run(scenario)


def test_each_of_many_turns_that_begin_at_once_in_one_session_has_its_own_question(database):
    async def scenario(bench: Bench) -> None:
        turns = [new_turn(number, now=NOW + number / 1e3) for number in range(16)]
        await asyncio.gather(*(bench.store.begin_turn(turn) for turn in turns))
        await asyncio.gather(*(bench.store.end_turn(ending(number)) for number in range(16)))
        for number in range(16):
            turn = await bench.store.jobs.finished_turn(*OWNER, f"a{number}")
            assert turn.question == f"question {number}"

    database.run(scenario)
