"""What every state database must hold of tool calls, whichever driver is behind it."""

import asyncio
from dataclasses import replace

import pytest

from service.calls import NewCall
from tests.contract.stores import NOW, Bench, ending, new_turn

ALL_OPEN = ("awaiting_approval", "approved", "running")


def new_call(state="running", **rest):
    values = {
        "call_id": "c1",
        "key": "k1",
        "message_id": "a1",
        "tenant": "acme",
        "user": "ann",
        "tool": "act",
        "arguments": '{"case_id": "C-1"}',
        "digest": "d" * 64,
        "instance_id": "one",
        "now": NOW,
        "expires_at": NOW + 120 if state == "awaiting_approval" else None,
    }
    return NewCall(**(values | {"state": state} | rest))


async def state(bench, call_id="c1"):
    return (await bench.store.call(call_id)).state


def test_a_key_is_claimed_by_the_first_and_shown_to_the_next(database):
    async def scenario(bench: Bench) -> None:
        assert await bench.store.claim_call(new_call()) is None
        earlier = await bench.store.claim_call(new_call())
        assert (earlier.call_id, earlier.state, earlier.digest, earlier.result) == ("c1", "running", "d" * 64, None)

    database.run(scenario)


def test_of_many_who_claim_one_key_at_once_one_has_it(database):
    async def scenario(bench: Bench) -> None:
        claims = await asyncio.gather(*(bench.store.claim_call(new_call(call_id=f"c{n}")) for n in range(20)))
        assert claims.count(None) == 1

    database.run(scenario)


def test_a_key_is_another_one_for_another_owner(database):
    async def scenario(bench: Bench) -> None:
        for number, owner in enumerate([("acme", "ann"), ("acme", "ben"), ("rival", "ann")]):
            mine = new_call(call_id=f"c{number}", tenant=owner[0], user=owner[1])
            assert await bench.store.claim_call(mine) is None

    database.run(scenario)


@pytest.mark.parametrize("ended", ["denied", "failed", "timed_out"])
def test_what_certainly_did_not_happen_can_be_claimed_again(database, ended):
    async def scenario(bench: Bench) -> None:
        await bench.store.claim_call(new_call())
        await bench.store.advance_call("c1", ["running"], ended, code="timeout")
        assert await bench.store.claim_call(new_call(state="awaiting_approval", instance_id="two")) is None
        again = await bench.store.call("c1")
        assert (again.state, again.error_code, again.expires_at) == ("awaiting_approval", "", NOW + 120)

    database.run(scenario)


@pytest.mark.parametrize("ended", ["completed", "indeterminate"])
def test_what_has_happened_or_may_have_is_never_claimed_again(database, ended):
    async def scenario(bench: Bench) -> None:
        await bench.store.claim_call(new_call())
        await bench.store.advance_call("c1", ["running"], ended, result='{"x": 1}')
        earlier = await bench.store.claim_call(new_call())
        assert (earlier.state, earlier.result) == (ended, '{"x": 1}')

    database.run(scenario)


def test_a_claim_with_other_arguments_never_takes_over(database):
    async def scenario(bench: Bench) -> None:
        await bench.store.claim_call(new_call())
        await bench.store.advance_call("c1", ["running"], "failed")
        earlier = await bench.store.claim_call(replace(new_call(), digest="e" * 64))
        assert earlier.digest == "d" * 64
        assert await state(bench) == "failed"

    database.run(scenario)


def test_a_state_is_left_once(database):
    async def scenario(bench: Bench) -> None:
        await bench.store.claim_call(new_call())
        moves = await asyncio.gather(
            *(bench.store.advance_call("c1", ALL_OPEN, to) for to in ("completed", "failed", "timed_out"))
        )
        assert moves.count(True) == 1

    database.run(scenario)


# --- approval -----------------------------------------------------------------------------------------------------


def test_what_waits_is_shown_to_its_tenant_until_it_expires(database):
    async def scenario(bench: Bench) -> None:
        await bench.store.claim_call(new_call("awaiting_approval"))
        await bench.store.claim_call(new_call(call_id="c2", key="k2"))
        assert [call.call_id for call in await bench.store.pending_calls("acme")] == ["c1"]
        assert await bench.store.pending_calls("rival") == ()
        bench.clock.now = NOW + 121
        assert await bench.store.pending_calls("acme") == ()

    database.run(scenario)


def test_a_call_is_decided_once_and_by_one(database):
    async def scenario(bench: Bench) -> None:
        await bench.store.claim_call(new_call("awaiting_approval"))
        call = await bench.store.call("c1")
        verdicts = await asyncio.gather(
            *(bench.store.decide_call(call, approve=number % 2 == 0, who=f"u{number}") for number in range(6))
        )
        assert sorted(verdicts) == ["decided", *["too_late"] * 5]
        assert await bench.store.decided_calls(["c1"]) == ("c1",)

    database.run(scenario)


def test_a_decision_after_the_limit_is_too_late(database):
    async def scenario(bench: Bench) -> None:
        await bench.store.claim_call(new_call("awaiting_approval"))
        bench.clock.now = NOW + 121
        assert await bench.store.decide_call(await bench.store.call("c1"), approve=True, who="lead") == "too_late"
        assert await state(bench) == "awaiting_approval"

    database.run(scenario)


def test_a_decision_on_other_arguments_changes_nothing(database):
    async def scenario(bench: Bench) -> None:
        await bench.store.claim_call(new_call("awaiting_approval"))
        call = await bench.store.call("c1")
        assert await bench.store.decide_call(call, approve=True, who="lead", digest="e" * 64) == "differs"
        assert await state(bench) == "awaiting_approval"
        assert await bench.store.decide_call(call, approve=True, who="lead", digest="d" * 64) == "decided"
        assert await state(bench) == "approved"

    database.run(scenario)


# --- when nobody works on it any more -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("was", "becomes"), [("running", "indeterminate"), ("awaiting_approval", "denied"), ("approved", "denied")]
)
def test_a_call_whose_turn_has_ended_is_settled_as_what_is_known_of_it(database, was, becomes):
    async def scenario(bench: Bench) -> None:
        await bench.store.begin_turn(new_turn())
        await bench.store.claim_call(new_call(was))
        assert await bench.store.settle_orphaned_calls() == ()
        assert await state(bench) == was
        await bench.store.end_turn(ending(status="interrupted"))
        assert await bench.store.settle_orphaned_calls() == ((("c1", "act"),) if was == "running" else ())
        assert await state(bench) == becomes
        assert await bench.store.settle_orphaned_calls() == ()

    database.run(scenario)


def test_a_call_of_an_instance_whose_turn_another_one_tries_again_is_settled(database):
    async def scenario(bench: Bench) -> None:
        await bench.store.begin_turn(new_turn(instance_id="two"))
        await bench.store.claim_call(new_call(instance_id="one"))
        assert await bench.store.settle_orphaned_calls() == (("c1", "act"),)

    database.run(scenario)


def test_a_transcript_shows_the_calls_of_each_answer(database):
    async def scenario(bench: Bench) -> None:
        await bench.store.begin_turn(new_turn(1))
        await bench.store.begin_turn(new_turn(2))
        await bench.store.claim_call(new_call(message_id="a2"))
        shown = {message.message_id: message.tool_calls for message in await bench.store.messages("acme", "ann", "s")}
        assert [message_id for message_id, calls in shown.items() if calls] == ["a2"]
        (call,) = shown["a2"]
        assert (call["tool"], call["arguments"], call["status"]) == ("act", {"case_id": "C-1"}, "running")

    database.run(scenario)


# --- the register of reviews --------------------------------------------------------------------------------------


def test_a_review_is_opened_once_for_a_key_and_once_for_a_case(database):
    async def scenario(bench: Bench) -> None:
        first = await bench.store.open_review("acme", "k1", "C-1", ["a", "c"], "ann")
        assert (first.case_id, first.reasons, first.opened_by) == ("C-1", ("a", "c"), "ann")
        assert await bench.store.open_review("acme", "k1", "C-1", ["a", "c"], "ann") == first
        assert await bench.store.review("acme", "k1") == first
        assert await bench.store.open_review("acme", "k2", "C-1", ["b"], "ben") is None
        assert await bench.store.review("acme", "k2") is None

    database.run(scenario)
