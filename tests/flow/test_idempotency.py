"""Idempotency-Key: what runs is not begun twice, what failed is begun again, and a key is its owner's alone."""

import asyncio

import pytest

from service.errors import Cause, ProviderFailure
from service.ports import Text
from telemetry import catalogue as rows
from tests.flow.house import ANN, ROUTE, in_house
from tests.flow.keyed import KEY, QUESTION, keyed
from tests.flow.parts import Says

DAY = 86_400.0


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
