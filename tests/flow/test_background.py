"""Long work: asked for at /jobs or by a turn in the background, done by the worker with all parts of the service."""

import asyncio
import json

import pytest

from service.api.jobs import JobDoor
from service.chat.background import Background
from service.chat.submission import submit
from service.errors import Cause
from service.ports import Text
from service.settings_groups import JobSettings
from service.work import LAST_EVENTS
from telemetry import catalogue as rows
from telemetry.catalogue import Attr
from tests.flow.house import ANN, ROUTE, in_house
from tests.flow.parts import Says

JOBS = "/jobs"
REPORT = {"kind": "report", "input": {"question": "What is case C-1042 about?", "model": "sim:tokens=40"}}
KEY = {"idempotency-key": "once"}


async def ask(house, body, **more):
    """Send `body` to /jobs."""
    client = house.client(body=body, **more)
    await house.connect(client, JobDoor, submit)
    return client


async def ended(house, job_id, tenant="demo"):
    """Wait until a job has ended; return it with its result."""

    async with asyncio.timeout(900):
        while (job := await house.workforce.desk.find(tenant, job_id)).ended_at is None:
            await asyncio.sleep(0.1)
    return job, json.loads(job.result or "null")


async def events(house, job_id):
    found = await house.workforce.desk.log(job_id, 0, 1000)
    assert [event.number for event in found] == list(range(1, len(found) + 1))
    assert [event.type in LAST_EVENTS for event in found] == [False] * (len(found) - 1) + [True]
    return [event.type for event in found]


def job_id_of(client):
    assert client.status == 202, client.raw
    job = json.loads(client.raw)
    assert client.answer_headers["location"] == f"/jobs/{job['job_id']}"
    return job["job_id"]


# --- asking -----------------------------------------------------------------------------------------------------


def test_a_job_is_accepted_with_202_and_counted_as_a_completed_request():
    async def scenario(house):
        client = await ask(house, REPORT)
        job = json.loads(client.raw)
        assert (job["kind"], job["status"], job["position"], job["result"]) == ("report", "queued", 1, None)
        assert job_id_of(client)
        return house.recorder

    seen = in_house(scenario)
    assert seen.value(rows.REQUESTS_STARTED_TOTAL, JOBS) == 1
    assert seen.value(rows.REQUESTS_TOTAL, JOBS, "completed") == 1
    server = seen.span("POST /jobs")
    assert server["attributes"][Attr.REQUEST_OUTCOME] == "completed"
    assert server["attributes"][Attr.JOB_ID].startswith("job_")
    phases = [span["name"] for span in seen.spans if span["parent"] == server["span_id"]]
    assert phases == ["input.validation", "policy.check", "state.persist", "stream.emit"]


@pytest.mark.parametrize(
    ("body", "status", "detail"),
    [
        ({"kind": "nonsense", "input": {}}, 422, "kind: must be one of"),
        ({"kind": "report", "input": {}}, 422, "input.question: not valid (missing)"),
        ({"kind": "report", "input": {"question": "?", "more": 1}}, 422, "input.more: not valid (extra_forbidden)"),
        ({"kind": "report", "input": {"question": "?"}, "priority": 10}, 422, "priority: "),
        ({"kind": "chat", "input": {"session_id": "s"}}, 422, "input.message: not valid (missing)"),
        (b"{", 400, "The body is not valid JSON"),
    ],
)
def test_what_is_no_job_is_refused_by_its_field(body, status, detail):
    async def scenario(house):
        client = await ask(house, body)
        assert client.status == status
        assert client.problem["detail"].startswith(detail)
        assert house.recorder.value(rows.REJECTIONS_TOTAL, JOBS, "invalid") == 1

    in_house(scenario)


def test_who_may_not_is_refused_and_so_is_who_has_no_key():
    async def scenario(house):
        assert (await ask(house, REPORT, key="Bearer nil")).status == 403
        assert (await ask(house, REPORT, key="Bearer nobody")).status == 401
        house.admittance.draining = True
        refused = await ask(house, REPORT)
        assert (refused.status, refused.problem["code"]) == (503, "shutting_down")
        seen = house.recorder
        for reason in ("forbidden", "unauthenticated", "draining"):
            assert seen.value(rows.REJECTIONS_TOTAL, JOBS, reason) == 1

    in_house(scenario)


def test_a_full_queue_refuses_with_the_time_to_come_again():
    async def scenario(house):
        for _ in range(JobSettings().tenant_queue):
            assert job_id_of(await ask(house, REPORT))
        refused = await ask(house, REPORT)
        assert (refused.status, refused.answer_headers["retry-after"]) == (429, "60")  # none has ended in a minute
        assert refused.problem["code"] == "rate_limited"
        assert house.recorder.value(rows.REJECTIONS_TOTAL, JOBS, "tenant_queue_full") == 1

    in_house(scenario)


def test_the_same_key_gives_the_same_job_and_another_body_is_a_conflict():
    async def scenario(house):
        first, again = [await ask(house, REPORT, headers=KEY) for _ in range(2)]
        assert job_id_of(again) == job_id_of(first)
        assert again.answer_headers["idempotent-replayed"] == "true"
        other = await ask(house, REPORT | {"priority": 1}, headers=KEY)
        assert (other.status, other.problem["code"]) == (409, "conflict")

    in_house(scenario)


# --- doing ------------------------------------------------------------------------------------------------------


def test_a_report_asks_the_model_four_times_and_cites_what_it_found():
    async def scenario(house):
        house.work()
        job, result = await ended(house, job_id_of(await ask(house, REPORT)))
        assert job.status == "completed"
        assert len(house.model.calls) == 4
        assert result["answer"]
        found = {document["id"] for document in result["documents"]}
        assert len(found) == 9
        assert set(result["citations"]) <= found
        assert result["citations"]
        assert all(set(note["citations"]) <= found for note in result["notes"])
        kinds = await events(house, job.job_id)
        assert kinds.count("step_completed") == 5
        return house.recorder

    seen = in_house(scenario)
    assert seen.value(rows.JOBS_TOTAL, "report", "completed") == 1
    assert seen.value(rows.GENERATED_TOKENS_TOTAL, "sim", "completed") == 160
    assert seen.value(rows.TENANT_TOKENS_TOTAL, "demo", "generated") == 160
    job = seen.span("job report")
    (asked,) = seen.named("POST /jobs")
    assert job["links"] == [asked["trace_id"]]
    assert len([span for span in seen.named("chat sim") if span["trace_id"] == job["trace_id"]]) == 4


def test_the_independent_calls_of_a_report_run_at_once():
    async def scenario(house):
        house.work()
        body = {"kind": "report", "input": {"question": "C-1042?", "model": "sim:ttft_ms=2000,tokens=2"}}
        job, _ = await ended(house, job_id_of(await ask(house, body)))
        assert 4.0 < job.ended_at - job.started_at < 5.0  # two rounds of two seconds

    in_house(scenario)


def test_documents_are_found_once_they_are_ingested_and_only_once_however_often():
    text = "The Zorblatt heater was recalled in Utrecht. " * 100
    body = {"kind": "document_ingestion", "input": {"documents": [{"title": "Recall", "text": text}]}}

    async def scenario(house):
        house.work()
        job, result = await ended(house, job_id_of(await ask(house, body)))
        assert job.status == "completed"
        (document,) = result["documents"]
        assert document["passages"] == result["passages"] == result["written"] == 4
        _, again = await ended(house, job_id_of(await ask(house, body)))
        assert (again["passages"], again["written"]) == (4, 0)
        client = await house.chat("Where was the Zorblatt heater recalled?", model="sim:tokens=5")
        hits = client.event("retrieval_completed")["documents"]
        assert hits[0]["id"].startswith(document["id"])
        theirs = await house.chat("Where was the Zorblatt heater recalled?", model="sim:tokens=5", key="Bearer eve")
        assert theirs.event("retrieval_completed")["count"] == 0

    in_house(scenario)


def test_nobody_gives_a_label_that_they_may_not_read():
    async def scenario(house):
        house.work()
        secret = {"title": "Secret", "text": "x", "labels": ["sealed"]}
        body = {"kind": "document_ingestion", "input": {"documents": [secret]}}
        job, _ = await ended(house, job_id_of(await ask(house, body)))
        assert (job.status, job.error_code) == ("failed", "forbidden")

    in_house(scenario)


# --- a turn in the background -----------------------------------------------------------------------------------


async def in_background(house, message="What is case C-1042 about?", **more):
    return await house.chat(message, ask={"background": True}, **more)


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
