"""Calls of tools within a turn: their order, their limits, what is refused, and what the model is told."""

import json

import pytest

from service.errors import ToolFailed, ToolUnavailable
from service.ports import ToolCall
from service.settings import Settings
from service.settings_rows import ToolSettings
from telemetry import catalogue as rows
from tests.flow.house import EVE, in_house
from tests.flow.tools import Asks, Recorder, call

LOOKUP = "sim:tool=policy_lookup,ttft_ms=10,interval_ms=1"


def asking(scenario, *rounds, tools=(), more=None):
    """Run `scenario(house, model)` with a model that asks for the calls of each round."""

    async def with_model(house):
        model = Asks(*rounds)
        house.routes.add("simulated", model)
        return await scenario(house, model)

    return in_house(with_model, tools=tools, **(more or {}))


def of(client, kind):
    return [data for this, data in client.events if this == kind]


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


def test_a_tool_over_its_time_is_stopped_and_the_turn_goes_on():
    inside = Recorder(seconds=60.0)

    async def scenario(house, model):
        client = await house.chat()
        completed = client.event("tool_call_completed")
        assert (completed["status"], completed["error_code"]) == ("timed_out", "timeout")
        assert client.types[-1] == "message_completed"
        assert inside.running == 0
        assert house.recorder.value(rows.TIMEOUTS_TOTAL, "tool.call", "phase") == 1
        assert 2_000 <= client.event("message_completed")["duration_ms"] < 2_500

    tool = inside.tool("read", side_effects=False)
    settings = Settings(tools={"read": ToolSettings(timeout_ms=2_000)})
    asking(scenario, [call("read")], tools=[tool], more={"settings": settings})


def test_when_the_whole_request_is_over_a_tool_ends_with_it():
    inside = Recorder(seconds=60.0)

    async def scenario(house, model):
        client = await house.chat(headers={"x-request-timeout-ms": "1000"})
        assert client.event("error")["code"] == "timeout"
        assert client.event("error")["phase"] == "tool.call"
        assert (await house.message()).tool_calls[0]["status"] == "timed_out"
        assert house.recorder.value(rows.TOOL_CALLS_TOTAL, "read", "timed_out") == 1

    asking(scenario, [call("read")], tools=[inside.tool("read", side_effects=False)])


def test_the_rounds_share_one_generation_budget_in_which_tools_do_not_count():
    inside = Recorder(seconds=4.0)
    tool = inside.tool("read", side_effects=False)

    async def scenario(house):
        slow = "sim:tool=read,tokens=100,interval_ms=70,ttft_ms=10"  # 3.5 s of tokens in each round
        return await house.chat("case C-1042", model=slow)

    assert in_house(scenario, tools=[tool], row={"generation": 8.0}).types[-1] == "message_completed"
    late = in_house(scenario, tools=[tool], row={"generation": 6.0})
    assert late.event("error")["code"] == "timeout"


def test_places_of_a_tool_are_waited_for_and_given_back():
    inside = Recorder(seconds=1.0)

    async def scenario(house, model):
        client = await house.chat()
        assert inside.most_running == 1
        assert [one["done"] for one in model.told] == ["C-1", "C-2"]
        assert client.types[-1] == "message_completed"

    tool = inside.tool("read", side_effects=False, concurrency=1)
    asking(scenario, [call("read", 1, case_id="C-1"), call("read", 2, case_id="C-2")], tools=[tool])


def test_a_tool_without_a_free_place_is_told_to_the_model_as_too_busy():
    inside = Recorder(seconds=4.0)

    async def scenario(house, model):
        client = await house.chat()
        codes = sorted(str(data["error_code"]) for data in of(client, "tool_call_completed"))
        assert codes == ["None", "overloaded"]
        assert client.types[-1] == "message_completed"

    tool = inside.tool("read", side_effects=False, concurrency=1)
    asking(scenario, [call("read", 1, case_id="C-1"), call("read", 2, case_id="C-2")], tools=[tool])


def test_a_tool_that_only_reads_is_tried_again_when_it_was_not_reached():
    inside = Recorder(errors=[ToolUnavailable(), ToolUnavailable()])

    async def scenario(house, model):
        client = await house.chat()
        assert client.event("tool_call_completed")["status"] == "completed"
        assert inside.begun.total() == 3

    asking(scenario, [call("read")], tools=[inside.tool("read", side_effects=False)])


@pytest.mark.parametrize(("idempotent", "attempts"), [(True, 3), (False, 1)])
def test_a_side_effect_is_tried_again_only_if_a_second_time_changes_nothing(idempotent, attempts):
    inside = Recorder(errors=[ToolUnavailable()] * 3)

    async def scenario(house, model):
        client = await house.chat()
        completed = client.event("tool_call_completed")
        assert (completed["status"], completed["error_code"]) == ("failed", "tool_failed")
        assert inside.begun.total() == attempts

    asking(scenario, [call()], tools=[inside.tool(idempotent=idempotent)])


def test_a_tool_s_failure_is_told_to_the_model_in_the_tool_s_own_words():
    inside = Recorder(errors=[ToolFailed("Another review is open on this case")])

    async def scenario(house, model):
        await house.chat()
        assert model.told[0] == {"status": "failed", "error": "Another review is open on this case. Nothing was done."}

    asking(scenario, [call()], tools=[inside.tool()])


def test_an_exception_of_a_tool_reaches_nobody_but_the_log_and_only_as_its_class():
    inside = Recorder(errors=[RuntimeError("password hunter2")])

    async def scenario(house, model):
        client = await house.chat()
        assert client.event("tool_call_completed")["status"] == "failed"
        (bug,) = house.recorder.logged(rows.LOG_BUG)
        assert "RuntimeError" in str(bug)
        house.recorder.logs.clear()  # told: it is expected here
        everything = client.raw.decode() + json.dumps(model.told) + str(bug) + json.dumps(house.recorder.spans)
        assert "hunter2" not in everything

    asking(scenario, [call("read")], tools=[inside.tool("read", side_effects=False)])


def test_an_answer_that_claims_a_change_that_no_tool_made_ends_with_an_error():
    async def scenario(house):
        house.routes.add("simulated", Asks(answer="I have opened an escalation review for case C-1042."))
        client = await house.chat()
        assert client.event("error")["code"] == "invalid_answer"
        assert client.event("error")["phase"] == "finalize"
        assert (await house.message()).status == "failed"

    in_house(scenario)


def test_a_change_that_a_tool_made_may_be_claimed():
    inside = Recorder()

    async def scenario(house, model):
        model.answer = "I have opened an escalation review for case C-1042."
        house.parts.toolbox.equipped["open_escalation_review"] = house.parts.toolbox.equipped["act"]
        client = await house.chat()
        assert client.types[-1] == "message_completed"

    asking(scenario, [call("open_escalation_review")], tools=[inside.tool()])
