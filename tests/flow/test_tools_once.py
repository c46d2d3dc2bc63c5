"""A side effect happens at most once for its key, and a turn that is tried again meets what the first one did."""

import asyncio

import pytest

from service.upkeep import Upkeep
from telemetry import catalogue as rows
from tests.flow.house import in_house
from tests.flow.tools import Asks, Recorder, call

KEY = {"idempotency-key": "the-same"}


def failing_first(scenario, tool, rounds=None):
    """Run `scenario(house, model, first)` after `first`, a turn whose answer failed once its call was made."""

    async def with_model(house):
        model = Asks(*(rounds or [[call(tool.spec.name)]]), failing=1)
        house.routes.add("simulated", model)
        first = await house.chat(headers=KEY)
        assert first.types[-1] == "error"
        return await scenario(house, model, first)

    return in_house(with_model, tools=[tool])


def change(house, **columns):
    """Write something else into the rows of the calls, as another process would."""
    sets = ", ".join(f"{name} = ?" for name in columns)
    house.driver._db.execute(f"UPDATE tool_calls SET {sets}", tuple(columns.values()))


def test_a_turn_tried_again_meets_the_stored_result_of_its_call():
    inside = Recorder()

    async def scenario(house, model, first):
        again = await house.chat(headers=KEY)
        completed = again.event("tool_call_completed")
        assert (completed["status"], completed["replayed"]) == ("completed", True)
        assert completed["call_id"] == first.event("tool_call_completed")["call_id"]
        assert not [kind for kind in again.types if kind == "tool_call_started"]
        assert model.told == [{"done": "C-1042"}]
        assert inside.begun.total() == 1
        assert house.recorder.value(rows.TOOL_REPLAYS_TOTAL, "act") == 1
        assert again.types[-1] == "message_completed"

    failing_first(scenario, inside.tool())


def test_the_same_question_without_the_key_is_another_message_and_another_call():
    inside = Recorder()

    async def scenario(house, model, first):
        again = await house.chat()
        assert again.event("tool_call_completed")["call_id"] != first.event("tool_call_completed")["call_id"]
        assert inside.done.total() == len(inside.done) == 2

    failing_first(scenario, inside.tool())


def test_the_same_call_asked_for_twice_in_a_turn_is_two_calls_whatever_the_provider_calls_them():
    inside = Recorder()
    rounds = [[call(number=1), call(number=1)], [call(number=1)]]

    async def scenario(house, model, first):
        assert len(inside.done) == inside.done.total() == 3
        again = await house.chat(headers=KEY)
        assert [data["replayed"] for kind, data in again.events if kind == "tool_call_completed"] == [True] * 3
        assert inside.done.total() == 3

    failing_first(scenario, inside.tool(), rounds)


def test_the_key_names_session_message_and_call():
    inside = Recorder()

    async def scenario(house, model, first):
        message = first.event("message_start")["message_id"]
        call_id = first.event("tool_call_completed")["call_id"]
        assert list(inside.done) == [f"session:s1:assistant-message:{message}:tool-call:{call_id}"]

    failing_first(scenario, inside.tool())


@pytest.mark.parametrize("state", ["denied", "failed", "timed_out"])
def test_what_certainly_did_not_happen_may_be_tried_again(state):
    inside = Recorder()

    async def scenario(house, model, first):
        change(house, state=state, error_code="cancelled", result=None)
        again = await house.chat(headers=KEY)
        assert again.event("tool_call_completed")["replayed"] is False
        assert again.event("tool_call_completed")["status"] == "completed"
        assert inside.begun.total() == 2

    failing_first(scenario, inside.tool())


def test_what_may_have_happened_is_not_tried_again_and_the_model_is_told_so():
    inside = Recorder()

    async def scenario(house, model, first):
        change(house, state="indeterminate", result=None)
        again = await house.chat(headers=KEY)
        assert again.event("tool_call_completed")["status"] == "indeterminate"
        assert "It is not known" in model.told[0]["error"]
        assert inside.begun.total() == 1

    failing_first(scenario, inside.tool())


def test_a_tool_that_can_look_it_up_settles_what_nobody_knew():
    inside = Recorder()

    async def scenario(house, model, first):
        change(house, state="indeterminate", result=None)
        again = await house.chat(headers=KEY)
        completed = again.event("tool_call_completed")
        assert (completed["status"], completed["replayed"]) == ("completed", True)
        assert model.told == [{"found": "C-1042"}]
        assert inside.begun.total() == 1
        assert (await house.message()).tool_calls[0]["status"] == "completed"

    failing_first(scenario, inside.tool(lookup=inside.lookup))


def test_a_tool_that_finds_nothing_proves_nothing():
    inside = Recorder()

    async def scenario(house, model, first):
        change(house, state="indeterminate", result=None)
        inside.done.clear()
        again = await house.chat(headers=KEY)
        assert again.event("tool_call_completed")["status"] == "indeterminate"
        assert inside.begun.total() == 1

    failing_first(scenario, inside.tool(lookup=inside.lookup))


def test_a_call_that_only_reads_and_was_left_in_the_middle_runs_again():
    inside = Recorder()

    async def scenario(house, model, first):
        change(house, state="indeterminate", result=None)
        again = await house.chat(headers=KEY)
        completed = again.event("tool_call_completed")
        assert (completed["status"], completed["replayed"]) == ("completed", False)
        assert inside.begun.total() == 2

    failing_first(scenario, inside.tool("read", side_effects=False))


def test_a_repeat_beside_the_first_waits_for_its_result():
    inside = Recorder()

    async def scenario(house, model, first):
        change(house, state="running", result=None, instance_id="another")
        client = house.client(headers=KEY)
        task = house.connect(client)
        await house.until(lambda: house.where == "tool.call")
        await asyncio.sleep(2.0)
        assert inside.begun.total() == 1
        change(house, state="completed", result='{"done": "elsewhere"}')
        await task
        assert client.event("tool_call_completed")["replayed"] is True
        assert model.told == [{"done": "elsewhere"}]
        assert inside.begun.total() == 1

    failing_first(scenario, inside.tool())


def test_a_key_under_which_other_arguments_stand_is_an_error_and_no_replay():
    inside = Recorder()

    async def scenario(house, model, first):
        change(house, arguments_digest="0" * 64)
        again = await house.chat(headers=KEY)
        assert again.event("error")["code"] == "conflict"
        assert inside.begun.total() == 1

    failing_first(scenario, inside.tool())


def test_a_result_is_not_replayed_to_who_may_not_call_the_tool_any_more():
    inside = Recorder()

    async def scenario(house, model, first):
        house.policy._part._tools.clear()
        again = await house.chat(headers=KEY)
        completed = again.event("tool_call_completed")
        assert (completed["status"], completed["error_code"]) == ("denied", "forbidden")
        assert model.told == [{"status": "denied", "error": "This call is not permitted."}]

    failing_first(scenario, inside.tool())


def test_a_database_that_does_not_take_the_claim_keeps_the_side_effect_from_happening():
    inside = Recorder()

    async def scenario(house):
        house.routes.add("simulated", Asks([call()], thinks=0.1))
        client = house.client()
        task = house.connect(client)
        await house.until(lambda: any(kind == "retrieval_completed" for kind in client.types))
        house.conditions.down = True
        await task
        house.conditions.down = False
        assert client.event("error")["code"] == "persist_failed"
        assert not inside.begun
        house.driver._db.execute("UPDATE messages SET status = 'failed'")  # as upkeep writes later

    in_house(scenario, tools=[inside.tool()])


def test_a_database_that_does_not_take_the_result_leaves_a_call_that_the_sweep_calls_indeterminate():
    inside = Recorder(seconds=1.0)

    async def scenario(house):
        house.routes.add("simulated", Asks([call()]))
        client = house.client()
        task = house.connect(client)
        await house.until(lambda: inside.running)
        house.conditions.down = True
        await task
        house.conditions.down = False
        assert client.event("error")["code"] == "persist_failed"
        assert inside.done.total() == 1
        house.driver._db.execute("UPDATE messages SET status = 'failed'")
        await Upkeep(house.parts, house.store, (), 2.0)._beat()
        assert (await house.message()).tool_calls[0]["status"] == "indeterminate"
        assert house.recorder.value(rows.TOOL_CALLS_TOTAL, "act", "indeterminate") == 1
        assert house.recorder.logged(rows.LOG_TOOL_INDETERMINATE)

    in_house(scenario, tools=[inside.tool()])
