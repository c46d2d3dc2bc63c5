"""Long work: asked for at /jobs, done by the worker with all parts of the service."""

import json

import pytest

from service.settings_groups import JobSettings
from telemetry import catalogue as rows
from telemetry.catalogue import Attr
from tests.flow.house import in_house
from tests.flow.jobs import JOBS, KEY, ask, ended, events, job_id_of

REPORT = {"kind": "report", "input": {"question": "What is case C-1042 about?", "model": "sim:tokens=40"}}

# --- asking --------------------------------------------------------------------------------------------------------


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


# --- doing ---------------------------------------------------------------------------------------------------------


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
