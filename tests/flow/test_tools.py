"""Calls of tools within a turn: how they are told, their order, their rounds, and what is refused."""

import json

import pytest

from service.ports import ToolCall
from service.settings import Settings
from telemetry import catalogue as rows
from tests.flow.house import EVE, in_house
from tests.flow.rounds import asking, of
from tests.flow.tools import Recorder, call

LOOKUP = "sim:tool=policy_lookup,ttft_ms=10,interval_ms=1"


def test_a_call_is_told_step_by_step_between_the_parts_of_the_answer():
    async def scenario(house):
        return await house.chat(model=LOOKUP)

    client = in_house(scenario)
    assert client.types == [
        "message_start",
        "retrieval_completed",
        "token_delta",
        "tool_call_requested",
        "tool_call_started",
        "tool_call_completed",
        "token_delta",
        "message_completed",
    ]
    requested, completed = client.event("tool_call_requested"), client.event("tool_call_completed")
    assert requested["call_id"] == completed["call_id"]
    assert (requested["authorization"], requested["approval"], requested["status"]) == (
        "allowed",
        "not_required",
        "running",
    )
    assert (completed["status"], completed["replayed"], completed["error_code"]) == ("completed", False, None)


def test_what_was_said_before_and_after_a_call_is_one_answer():
    async def scenario(house):
        client = await house.chat(model=LOOKUP)
        return client, await house.message()

    client, message = in_house(scenario)
    assert message.text == client.text
    assert "policy_lookup says" in client.text
    assert [(one["tool"], one["status"]) for one in message.tool_calls] == [("policy_lookup", "completed")]


def test_a_call_has_a_span_of_its_own_beside_the_model_s_rounds():
    async def scenario(house):
        client = await house.chat(model=LOOKUP)
        return client, house.recorder

    client, seen = in_house(scenario)
    attributes = seen.span("tool.call")["attributes"]
    assert attributes["gen_ai.operation.name"] == "execute_tool"
    assert attributes["gen_ai.tool.name"] == "policy_lookup"
    assert attributes["gen_ai.tool.call.id"] == client.event("tool_call_requested")["call_id"]
    assert attributes["forebay.outcome"] == "ok"
    assert len(seen.named("model.stream")) == 2
    assert seen.value(rows.TOOL_CALLS_TOTAL, "policy_lookup", "completed") == 1
    assert seen.value(rows.TOOL_DURATION_SECONDS, "policy_lookup") == 1


def test_the_model_is_offered_the_tools_of_its_user_s_scope_and_told_the_result():
    async def scenario(house, model):
        await house.chat()
        assert {tool.name for tool in model.requests[0].tools} >= {"case_lookup", "policy_lookup"}
        assert model.told[0]["case_id"] == "C-1042"

    asking(scenario, [call("case_lookup", case_id="C-1042")])


def test_another_tenant_finds_nothing_of_ours():
    async def scenario(house, model):
        await house.chat(key=f"Bearer {EVE.user}")
        assert model.told == [{"case_id": "C-1042", "found": False}]

    asking(scenario, [call("case_lookup", case_id="C-1042")])


def test_calls_that_only_read_run_at_the_same_time():
    inside = Recorder(seconds=1.0)

    async def scenario(house, model):
        client = await house.chat()
        assert inside.most_running == 3
        assert client.event("message_completed")["duration_ms"] < 1_500
        assert [one["done"] for one in model.told] == ["C-1", "C-2", "C-3"]

    asked = [call("read", number, case_id=f"C-{number}") for number in (1, 2, 3)]
    asking(scenario, asked, tools=[inside.tool("read", side_effects=False)])


def test_calls_run_in_order_when_one_of_them_changes_something():
    inside = Recorder(seconds=0.5)

    async def scenario(house, model):
        await house.chat()
        assert inside.most_running == 1
        assert [one["done"] for one in model.told] == ["C-1", "C-2"]

    asked = [call("read", 1, case_id="C-1"), call("act", 2, case_id="C-2")]
    asking(scenario, asked, tools=[inside.tool("read", side_effects=False), inside.tool("act")])


def test_the_rounds_are_bounded_and_in_the_last_no_tool_is_on_offer():
    async def scenario(house, model):
        client = await house.chat()
        assert len(model.requests) == 3
        assert [bool(request.tools) for request in model.requests] == [True, True, False]
        assert len(of(client, "tool_call_completed")) == 2
        assert client.types[-1] == "message_completed"

    settings = Settings(chat={"tool_rounds": 2})
    rounds = [[call("case_lookup", n, case_id="C-1042")] for n in range(2)]
    asking(scenario, *rounds, more={"settings": settings})


def test_a_model_that_never_stops_asking_ends_with_an_error_not_with_an_empty_answer():
    async def scenario(house, model):
        client = await house.chat()
        assert client.event("error")["code"] == "invalid_answer"

    rounds = [[call("case_lookup", n, case_id="C-1042")] for n in range(3)]
    asking(scenario, *rounds, more={"settings": Settings(chat={"tool_rounds": 2})})


def test_too_many_calls_of_one_round_are_refused_to_the_model():
    async def scenario(house, model):
        client = await house.chat()
        assert len(of(client, "tool_call_completed")) == 8
        assert [one.get("status") for one in model.told[8:]] == ["denied"] * 4

    asked = [call("case_lookup", number, case_id=f"C-{number}") for number in range(12)]
    asking(scenario, asked)


@pytest.mark.parametrize(
    ("asked", "code"),
    [
        (ToolCall("1", "rm_rf", "{}"), "not_found"),
        (ToolCall("1", "case_lookup", "{}"), "invalid_request"),
        (ToolCall("1", "case_lookup", '{"case_id": "C-1042", "tenant": "rival"}'), "invalid_request"),
        (ToolCall("1", "case_lookup", '{"case_id": 7}'), "invalid_request"),
        (ToolCall("1", "case_lookup", '["C-1042"]'), "invalid_request"),
        (ToolCall("1", "case_lookup", '{"case_id": NaN}'), "invalid_request"),
        (ToolCall("1", "case_lookup", '{"case_id": "C-10'), "invalid_request"),
        (ToolCall("1", "case_lookup", "[" * 5_000), "invalid_request"),
        (ToolCall("1", "case_lookup", '{"case_id": "' + "C" * 20_000 + '"}'), "invalid_request"),
        (ToolCall("1", "case_lookup", '{"case_id": "\\ud800"}'), "invalid_request"),
    ],
    ids=range(10),
)
def test_a_model_s_mistake_is_told_to_the_model_and_the_turn_goes_on(asked, code):
    async def scenario(house, model):
        client = await house.chat()
        requested, completed = client.event("tool_call_requested"), client.event("tool_call_completed")
        assert (requested["authorization"], requested["status"]) == ("denied", "denied")
        assert (completed["status"], completed["error_code"]) == ("denied", code)
        assert model.told[0]["status"] == "denied"
        assert client.types[-1] == "message_completed"
        assert house.recorder.value(rows.TOOL_CALLS_TOTAL, "", "denied") == 1
        assert (await house.message()).tool_calls[0]["status"] == "denied"

    asking(scenario, [asked])


def test_what_a_tool_does_not_say_may_be_seen_is_hidden_from_events_and_transcript():
    inside = Recorder()

    async def scenario(house, model):
        client = await house.chat()
        shown = {"case_id": "C-1042", "note": "[hidden]"}
        assert client.event("tool_call_requested")["arguments"] == shown
        assert (await house.message()).tool_calls[0]["arguments"] == shown
        assert "the witness" not in json.dumps(house.recorder.spans) + json.dumps(house.recorder.logs)
        assert b"the witness" not in client.raw

    asking(scenario, [call(case_id="C-1042", note="the witness is Ms B.")], tools=[inside.tool()])
