"""Calls that a human decides on: how they wait, who may decide and until when."""

import asyncio

import pytest

from telemetry import catalogue as rows
from tests.flow.approvals import asking, decide, waiting
from tests.flow.house import ANN, BEN
from tests.flow.tools import Recorder, call
from tests.virtual_loop import EPOCH


def test_a_call_waits_until_it_is_approved_and_then_runs_once():
    inside = Recorder()

    async def scenario(house, model):
        client = house.client()
        task = house.connect(client)
        await waiting(house)
        assert not inside.begun
        assert house.recorder.value(rows.TOOL_APPROVALS_PENDING) == 1
        await decide(house)
        await task
        requested = client.event("tool_call_requested")
        assert (requested["approval"], requested["status"]) == ("required", "awaiting_approval")
        assert client.event("tool_call_completed")["status"] == "completed"
        assert inside.done.total() == 1
        assert house.recorder.value(rows.TOOL_APPROVALS_PENDING) == 0
        assert house.recorder.span("tool.call")["attributes"]["forebay.approval"] == "approved"

    asking(scenario, inside)


def test_a_call_that_is_denied_does_not_run_and_the_model_is_told():
    inside = Recorder()

    async def scenario(house, model):
        client = house.client()
        task = house.connect(client)
        await decide(house, approve=False)
        await task
        completed = client.event("tool_call_completed")
        assert (completed["status"], completed["error_code"]) == ("denied", "forbidden")
        assert model.told == [{"status": "denied", "error": "An approver refused; it was not done."}]
        assert client.types[-1] == "message_completed"
        assert not inside.begun

    asking(scenario, inside)


def test_a_call_that_nobody_decides_on_expires_and_a_later_decision_is_too_late():
    inside = Recorder()

    async def scenario(house, model):
        client = house.client()
        task = house.connect(client)
        stored = await waiting(house)
        assert stored.expires_at == pytest.approx(EPOCH + 120, abs=1)
        await task
        completed = client.event("tool_call_completed")
        assert (completed["status"], completed["error_code"]) == ("denied", "timeout")
        assert await house.store.decide_call(stored, approve=True, who="lead") == "too_late"
        assert client.types[-1] == "message_completed"
        assert not inside.begun

    asking(scenario, inside)


def test_the_request_s_clocks_stand_still_while_a_call_waits_and_go_on_afterwards():
    inside = Recorder(seconds=1.0)

    async def scenario(house, model):
        client = house.client(headers={"x-request-timeout-ms": "3000"})
        task = house.connect(client)
        await waiting(house)
        await asyncio.sleep(100.0)
        await decide(house)
        await task
        assert client.event("tool_call_completed")["status"] == "completed"
        assert client.types[-1] == "message_completed"
        assert client.event("message_completed")["duration_ms"] > 100_000
        assert client.raw.count(b": keep-alive") == 6, "every 15 s of silence"

    asking(scenario, inside)


def test_what_was_left_when_the_wait_began_is_left_when_it_ends():
    inside = Recorder(seconds=4.0)

    async def scenario(house, model):
        client = house.client(headers={"x-request-timeout-ms": "3000"})
        task = house.connect(client)
        await waiting(house)
        await asyncio.sleep(50.0)
        await decide(house)
        await task
        assert client.event("error")["code"] == "timeout"
        duration = house.recorder.logged(rows.LOG_REQUEST)[0]["duration_ms"]
        assert 53_000 <= duration < 54_000

    asking(scenario, inside)


def test_neither_the_model_s_nor_the_tool_s_place_is_held_while_a_call_waits():
    async def scenario(house, model):
        client = house.client()
        task = house.connect(client)
        await waiting(house)
        assert house.gates["model"].in_use == house.gates["tool:act"].in_use == 0
        await decide(house)
        await task

    asking(scenario, Recorder())


def test_a_decision_that_came_in_at_another_process_is_seen_by_the_one_that_waits():
    async def scenario(house, model):
        from service.upkeep import Upkeep

        upkeep = Upkeep(house.parts, house.store, (), 2.0)
        upkeep.start()
        client = house.client()
        task = house.connect(client)
        await decide(house, wake=False)
        decided_at = asyncio.get_running_loop().time()
        await house.until(lambda: not house.toolbox.approvals.waiting)
        assert asyncio.get_running_loop().time() - decided_at < 0.26
        await task
        await upkeep.stop()
        assert client.event("tool_call_completed")["status"] == "completed"

    asking(scenario, Recorder())


def test_a_permission_that_was_withdrawn_meanwhile_is_not_used_any_more():
    inside = Recorder()

    async def scenario(house, model):
        client = house.client()
        task = house.connect(client)
        stored = await waiting(house)
        house.policy._part._tools.clear()
        await decide(house)
        await task
        completed = client.event("tool_call_completed")
        assert (completed["status"], completed["error_code"]) == ("denied", "forbidden")
        assert (await house.store.call(stored.call_id)).state == "denied"
        assert not inside.begun

    asking(scenario, inside)


def test_of_two_calls_that_wait_the_second_is_asked_for_after_the_first_was_decided():
    inside = Recorder()

    async def scenario(house, model):
        client = house.client()
        task = house.connect(client)
        first = await decide(house)
        await house.until(lambda: first.call_id not in house.toolbox.approvals.waiting)
        await decide(house, approve=False)
        await task
        assert [one.get("status", "completed") for one in model.told] == ["completed", "denied"]
        assert inside.done.total() == 1

    asked = [call(number=1, case_id="C-1"), call(number=2, case_id="C-2")]
    asking(scenario, inside, rounds=[asked])


def test_the_shipped_policy_lets_approvers_decide_and_nobody_else():
    from dataclasses import replace

    async def scenario(house, model):
        approver = replace(ANN, roles=frozenset({"approver"}))
        told = {"tool": "act", "requested_by": "ann"}
        assert house.policy.allows(approver, "approval:decide", **told)
        assert not house.policy.allows(BEN, "approval:decide", **told)

    asking(scenario, Recorder())
