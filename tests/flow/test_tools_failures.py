"""Tools that are late, busy, away or wrong: what becomes of the turn, and what the model is told."""

import json

import pytest

from service.errors import ToolFailed, ToolUnavailable
from service.settings import Settings
from service.settings_rows import ToolSettings
from telemetry import catalogue as rows
from tests.flow.house import in_house
from tests.flow.rounds import asking, of
from tests.flow.tools import Asks, Recorder, call


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
