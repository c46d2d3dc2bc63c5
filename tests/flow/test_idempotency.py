"""Idempotency-Key: what was answered is told again, what runs is not begun twice, what failed is begun again."""

import asyncio

import pytest

from service.errors import Cause, ProviderFailure
from service.ports import Finish, Text, Usage
from service.providers.failures import from_status
from service.runtime.quota import Rules
from telemetry import catalogue as rows
from tests.flow.house import ANN, ROUTE, in_house
from tests.flow.parts import Says

DAY = 86_400.0
KEY = {"idempotency-key": "order-7"}
QUESTION = "What is case C-1042 about?"


def told(client):
    """What a client was told that a replay must tell again."""
    return [(kind, data) for kind, data in client.events if kind not in ("message_start", "token_delta")]


def without_duration(events):
    return [(kind, {name: value for name, value in data.items() if name != "duration_ms"}) for kind, data in events]


async def keyed(house, message=QUESTION, **more):
    return await house.chat(message, **{"headers": KEY, "model": "sim:tokens=8", **more})


def test_a_completed_turn_is_told_again_without_calling_a_model():
    async def scenario(house):
        first, again = await keyed(house), await keyed(house)
        assert len(house.model.calls) == 1
        assert (first.status, again.status) == (200, 200)
        assert "idempotent-replayed" not in first.answer_headers
        assert again.answer_headers["idempotent-replayed"] == "true"
        assert again.types == first.types
        assert again.text == first.text
        assert without_duration(told(again)) == without_duration(told(first))
        ids = [client.event("message_start")["message_id"] for client in (first, again)]
        assert ids[0] == ids[1]
        assert len(await house.store.messages(ANN.tenant, ANN.user, "s1")) == 2

    in_house(scenario)


def test_a_replay_tells_the_calls_of_tools_where_they_stood():
    async def scenario(house):
        model = "sim:tool=policy_lookup,ttft_ms=10,interval_ms=1"
        first, again = await keyed(house, model=model), await keyed(house, model=model)
        assert again.answer_headers["idempotent-replayed"] == "true"
        assert first.event("tool_call_completed")["status"] == "completed"
        assert (again.types, again.text) == (first.types, first.text)
        assert without_duration(told(again)) == without_duration(told(first))

    in_house(scenario)


def test_a_replay_needs_neither_a_provider_that_works_nor_a_place_of_its_own_nor_a_quota():
    async def scenario(house):
        first = await keyed(house)
        house.model._model = Says(from_status(500))
        for _ in range(20):
            await house.chat()
        assert (await house.chat()).status == 503, "the circuit is open"
        held = [house.gates["model"].try_acquire("demo", asyncio.current_task()) for _ in range(100)]
        house.quota._used["demo"]["tokens"] = 1e6
        again = await keyed(house)
        for one in held:
            one.release()
        assert (again.status, again.text) == (200, first.text)
        assert (await keyed(house, "Another question")).status != 200

    in_house(scenario, row={"max_attempts": 1}, rules=Rules(daily={"tokens": 1e6}))


def test_a_replay_is_refused_while_the_process_drains():
    async def scenario(house):
        await keyed(house)
        house.admittance.draining = True
        refused = await keyed(house)
        assert (refused.status, refused.problem["code"]) == (503, "shutting_down")
        assert [line["replayed"] for line in house.recorder.logged(rows.LOG_REQUEST)] == [False, False]

    in_house(scenario)


def test_a_replay_counts_as_a_completed_request_and_neither_as_tokens_nor_as_a_first_token():
    async def scenario(house):
        house.model._model = Says(Text("All is "), Text("well [1]."), Finish("stop"), Usage(120, 9))
        await keyed(house)
        again = await keyed(house)
        assert again.event("message_completed")["usage"] == {"prompt_tokens": 120, "generated_tokens": 9}
        return house.recorder

    seen = in_house(scenario)
    assert seen.value(rows.REQUESTS_TOTAL, ROUTE, "completed") == 2
    assert seen.value(rows.GENERATED_TOKENS_TOTAL) == seen.value(rows.TENANT_TOKENS_TOTAL, "demo", "generated") == 9
    assert seen.value(rows.PROMPT_TOKENS_TOTAL) == 120
    assert seen.value(rows.TIME_TO_FIRST_TOKEN_SECONDS) == 1
    assert seen.value(rows.FIRST_TOKEN_MISSED_TOTAL) == 0
    assert seen.value(rows.STREAM_DURATION_SECONDS) == 1
    assert [line["replayed"] for line in seen.logged(rows.LOG_REQUEST)] == [False, True]


def test_another_body_under_the_same_key_is_a_conflict():
    async def scenario(house):
        await keyed(house)
        other = await keyed(house, "And case C-1051?")
        assert (other.status, other.problem["code"]) == (409, "conflict")
        assert house.recorder.value(rows.REJECTIONS_TOTAL, ROUTE, "conflict") == 1
        assert len(house.model.calls) == 1

    in_house(scenario)


def test_a_key_whose_turn_runs_is_a_conflict_and_the_turn_goes_on():
    async def scenario(house):
        running = house.client(QUESTION, model="sim:tokens=20", headers=KEY)
        task = house.connect(running)
        await house.until(lambda: running.text)
        second = await keyed(house, model="sim:tokens=20")
        assert (second.status, second.problem["code"]) == (409, "conflict")
        await task
        assert running.types[-1] == "message_completed"

    in_house(scenario)


def test_of_many_at_once_one_runs_and_the_others_conflict():
    async def scenario(house):
        clients = [house.client(QUESTION, model="sim:tokens=8", headers=KEY) for _ in range(8)]
        await asyncio.gather(*map(house.connect, clients))
        assert sorted(client.status for client in clients) == [200, *[409] * 7]
        assert len(house.model.calls) == 1

    for seed in range(10):
        in_house(scenario, seed=seed)


@pytest.mark.parametrize("how", ["failed", "timed_out", "cancelled", "left"])
def test_a_turn_that_did_not_complete_runs_again_under_the_same_id(how):
    async def scenario(house):
        before = house.model._model
        first = house.client(QUESTION, model="sim:tokens=8", headers=KEY)
        house.model._model = Says(Text("Half"), *([1.0, ProviderFailure("5xx")] if how == "failed" else [100.0]))
        task = house.connect(first)
        await house.until(lambda: first.text)
        if how == "cancelled":
            house.turn.cancel(Cause.CLIENT_CANCEL)
        elif how == "left":
            first.leave()
        await task
        stored = {"left": "cancelled"}.get(how, how)
        assert (await house.message()).status == stored
        house.model._model = before
        again = await keyed(house)
        assert again.types[-1] == "message_completed"
        assert "idempotent-replayed" not in again.answer_headers
        message = await house.message()
        assert (message.status, message.text) == ("completed", again.text)
        assert message.message_id == again.event("message_start")["message_id"]
        assert message.message_id == first.event("message_start")["message_id"]
        assert len(await house.store.messages(ANN.tenant, ANN.user, "s1")) == 2

    in_house(scenario)


def test_a_turn_that_runs_again_does_not_see_its_own_question_as_history():
    async def scenario(house):
        await house.chat("First?", model="sim:tokens=3")
        await keyed(house, model="sim:fail_at=3")
        await keyed(house, model="sim:fail_at=3")
        spoken = [message.content.rpartition("\n")[2] for message in house.model.calls[-1].messages[1:]]
        assert spoken.count(QUESTION) == 1
        assert "First?" in spoken

    in_house(scenario)


def test_who_was_cancelled_is_not_stopped_by_the_old_request_when_running_again():
    async def scenario(house):
        first = house.client(QUESTION, model="sim:tokens=50", headers=KEY)
        task = house.connect(first)
        await house.until(lambda: first.text)
        message_id = house.turn.message_id
        assert await house.store.request_cancel(message_id)
        house.turn.cancel(Cause.CLIENT_CANCEL)
        await task
        again = house.client(QUESTION, model="sim:tokens=50", headers=KEY)
        task = house.connect(again)
        await house.until(lambda: again.text)
        assert await house.store.cancel_requests_for("i1") == ()
        await task

    in_house(scenario)


def test_what_was_refused_before_it_began_leaves_no_trace_of_its_key():
    async def scenario(house):
        house.policy.becomes(seconds=1.0)
        refused = await keyed(house)
        assert refused.status == 504
        house.policy.becomes()
        assert (await keyed(house)).types[-1] == "message_completed"

    in_house(scenario)


@pytest.mark.parametrize("other", ["Bearer ben", "Bearer eve"])
def test_a_key_is_its_owner_s_alone(other):
    async def scenario(house):
        mine = await keyed(house)
        theirs = await keyed(house, key=other)
        assert theirs.event("message_start")["message_id"] != mine.event("message_start")["message_id"]
        assert "idempotent-replayed" not in theirs.answer_headers

    in_house(scenario)


def test_after_a_day_a_key_is_new():
    async def scenario(house):
        first = await keyed(house)
        await asyncio.sleep(DAY + 1)
        again = await keyed(house)
        assert "idempotent-replayed" not in again.answer_headers
        assert again.event("message_start")["message_id"] != first.event("message_start")["message_id"]
        await asyncio.sleep(0.9 * DAY / 8)
        await house.store.forget_expired_keys()
        assert house.driver._db.execute("SELECT count(*) FROM idempotency").fetchone() == (1,)

    in_house(scenario)


@pytest.mark.parametrize("key", ["", "k" * 256, "schlüssel", "a\tb"])
def test_a_key_that_is_none_is_refused(key):
    async def scenario(house):
        refused = await house.chat(headers={"idempotency-key": key})
        assert (refused.status, refused.problem["code"]) == (422, "invalid_request")
        assert refused.problem["detail"].startswith("Idempotency-Key: ")

    in_house(scenario)


def test_a_request_whose_client_leaves_the_replay_stays_completed():
    async def scenario(house):
        first = await keyed(house)
        again = house.client(QUESTION, model="sim:tokens=8", headers=KEY, pause=0.1)
        task = house.connect(again)
        await house.until(lambda: [turn.committed for turn in house.parts.live] == [True])
        again.leave()
        await task
        assert (await house.message()).text == first.text
        assert house.requests("completed") == 2

    in_house(scenario)


def test_two_replays_at_once_are_two_requests():
    async def scenario(house):
        first = await keyed(house)
        both = [house.client(QUESTION, model="sim:tokens=8", headers=KEY, pause=0.2) for _ in range(2)]
        tasks = [house.connect(client) for client in both]
        await house.until(lambda: [turn.committed for turn in house.parts.live] == [True, True])
        assert house.parts.live.get(first.event("message_start")["message_id"]) is None
        await asyncio.gather(*tasks)
        assert {client.text for client in both} == {first.text}

    in_house(scenario)


def test_a_run_that_comes_back_late_does_not_end_the_run_after_it():
    async def scenario(house):
        first = house.client(QUESTION, model="sim:tokens=8,interval_ms=500", headers=KEY)
        task = house.connect(first)
        await house.until(lambda: first.text)
        await house.store.leave("i1")  # as if another process had taken this one for dead
        await asyncio.sleep(11.0)
        await house.store.interrupt_orphans(house.world.now())
        await house.store.beat("i1")
        await task
        assert first.types[-1] in ("error", "message_completed")
        return first

    in_house(scenario)


def test_when_the_client_leaves_while_the_turn_begins_again_nothing_is_left_running():
    async def scenario(house):
        await keyed(house, model="sim:fail_at=1")
        for pause in (0.0005, 0.001, 0.002, 0.004):
            client = house.client(QUESTION, model="sim:fail_at=1", headers=KEY)
            task = house.connect(client)
            await house.until(lambda: house.where == "state.persist", step=0.0001)
            await asyncio.sleep(pause)
            client.leave()
            await task
            assert house.statuses() in ({"cancelled": 1}, {"failed": 1})

    for seed in range(5):
        in_house(scenario, seed=seed)
