"""A turn in the background: a job whose answer is in the session."""

import asyncio
import json

import pytest

from service.chat.background import Background
from service.errors import Cause
from service.ports import Text
from telemetry import catalogue as rows
from tests.flow.house import ANN, ROUTE, in_house
from tests.flow.jobs import KEY, ask, ended, events, in_background, job_id_of
from tests.flow.parts import Says


def test_a_turn_in_the_background_is_a_job_and_its_answer_is_in_the_session():
    async def scenario(house):
        house.work()
        job, result = await ended(house, job_id_of(await in_background(house, model="sim:tokens=12")))
        assert job.status == "completed"
        message = await house.message()
        assert (message.status, message.text, message.message_id) == ("completed", result["text"], result["message_id"])
        assert result["usage"]["generated_tokens"] == 12
        assert await events(house, job.job_id) == [
            "job_queued", "job_started", "step_started", "step_completed", "job_completed",
        ]  # fmt: skip
        return house.recorder

    seen = in_house(scenario)
    assert seen.value(rows.JOBS_TOTAL, "chat", "completed") == 1
    assert seen.value(rows.REQUESTS_TOTAL, ROUTE, "completed") == 1
    assert seen.value(rows.REQUESTS_TOTAL) == 1
    assert seen.value(rows.TIME_TO_FIRST_TOKEN_SECONDS) == seen.value(rows.FIRST_TOKEN_MISSED_TOTAL) == 0
    assert seen.value(rows.GENERATED_TOKENS_TOTAL, "sim", "completed") == 12
    assert seen.span("job chat")["links"] == [seen.span("POST /chat/stream")["trace_id"]]


def test_a_job_of_kind_chat_takes_the_body_of_a_turn():
    async def scenario(house):
        house.work()
        body = {"kind": "chat", "input": {"session_id": "s9", "message": "Hello?", "model": "sim:tokens=3"}}
        job, result = await ended(house, job_id_of(await ask(house, body)))
        assert (job.status, result["session_id"]) == ("completed", "s9")

    in_house(scenario)


def test_a_turn_that_fails_fails_its_job_with_its_code():
    async def scenario(house):
        house.work()
        job, _ = await ended(house, job_id_of(await in_background(house, model="sim:fail_at=2")))
        assert (job.status, job.error_code) == ("failed", "provider_error")
        assert (await house.message()).status == "failed"

    in_house(scenario)


def test_a_turn_that_fails_at_first_is_answered_by_a_later_attempt_under_the_same_message():
    async def scenario(house):
        house.work()
        before, house.model._model = house.model._model, Says(Text("Half"))  # cut
        client = await in_background(house)
        await house.until(lambda: len(house.model.calls) == 1)
        await house.until(lambda: not len(house.parts.live))
        house.model._model = before
        job, result = await ended(house, job_id_of(client))
        assert job.status == "completed"
        messages = await house.store.messages(ANN.tenant, ANN.user, "s1")
        assert [message.status for message in messages] == ["completed", "completed"]
        assert messages[1].text == result["text"]

    in_house(scenario)


def test_cancelling_the_job_closes_the_model_and_cancels_the_message():
    async def scenario(house):
        house.work()
        client = await in_background(house, model="sim:tokens=10000,interval_ms=100")
        job_id = job_id_of(client)
        await house.until(lambda: house.model.open)
        assert await house.workforce.desk.cancel("demo", job_id) == "running"
        before = asyncio.get_running_loop().time()
        job, _ = await ended(house, job_id)
        assert asyncio.get_running_loop().time() - before < 1.2
        assert job.status == "cancelled"
        assert house.model.open == 0
        assert (await house.message()).status == "cancelled"

    in_house(scenario)


def test_cancelling_the_message_cancels_the_job():
    async def scenario(house):
        house.work()
        client = await in_background(house, model="sim:tokens=10000,interval_ms=100")
        await house.until(lambda: house.model.open)
        assert house.turn.cancel(Cause.CLIENT_CANCEL)
        job, _ = await ended(house, job_id_of(client))
        assert (job.status, job.error_code) == ("cancelled", "cancelled")

    in_house(scenario)


def test_a_turn_that_was_completed_when_its_worker_died_is_told_to_the_next_one():
    async def scenario(house):
        client = await in_background(house, model="sim:tokens=5")
        job_id = job_id_of(client)
        first = await house.workforce.desk.store.claim("w-dead", ("chat",), 0.0)
        body = {key: value for key, value in json.loads(first.input).items() if key != "background"}
        told = await Background(house.parts, house.store.jobs).converse(first.principal, body, f"{job_id}/answer")
        await asyncio.sleep(1.0)
        house.work()
        job, result = await ended(house, job_id)
        assert (job.status, result["text"], result["message_id"]) == ("completed", told["text"], told["message_id"])
        assert len(house.model.calls) == 1

    in_house(scenario)


@pytest.mark.parametrize("number", ["1e400", "NaN"])
def test_a_number_that_is_none_is_no_surprise_in_the_background(number):
    async def scenario(house):
        schema = f'{{"minimum": {number}}}'
        body = f'{{"session_id": "s1", "message": "Hi", "background": true, "response_schema": {schema}}}'
        client = house.client(body=body.encode())
        await house.connect(client)
        house.work()
        job, _ = await ended(house, job_id_of(client))
        assert (job.status, job.error_code) == ("failed", "invalid_request")

    in_house(scenario)


def test_a_turn_in_the_background_obeys_its_key():
    async def scenario(house):
        first, again = [await in_background(house, headers=KEY) for _ in range(2)]
        assert job_id_of(first) == job_id_of(again)
        house.work()
        await ended(house, job_id_of(first))
        assert len(house.model.calls) == 1

    in_house(scenario)
