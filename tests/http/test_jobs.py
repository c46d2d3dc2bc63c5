"""Jobs over real sockets, as their users meet them: asked for, looked at, followed, stopped, asked for again."""

import re
import time

import pytest

from tests.process import SIMULATED, Service, events

CONFIG = SIMULATED + "\n[jobs]\nconcurrency = 4\ntenant_queue = 30\n"
REPORT = {"kind": "report", "input": {"question": "What is case C-1042 about?", "model": "sim:tokens=40,interval_ms=1"}}
ENDLESS = {"session_id": "s", "message": "?", "model": "sim:tokens=100000,interval_ms=50"}


@pytest.fixture(scope="module")
def service(tmp_path_factory):
    with Service(tmp_path_factory.mktemp("jobs"), CONFIG) as running:
        yield running


def ask(service, body, **headers):
    with service.client() as client:
        answer = client.post("/jobs", json=body, headers=headers)
    assert answer.status_code == 202, answer.text
    return answer


def until(service, job_id, *statuses, seconds=30.0):
    """Look at a job until it has one of these statuses."""
    deadline = time.monotonic() + seconds
    with service.client() as client:
        while (job := client.get(f"/jobs/{job_id}").json())["status"] not in statuses:
            assert time.monotonic() < deadline, job
            time.sleep(0.05)
    return job


def follow(service, job_id, after=None):
    """Read a job's events to the end: (id, type, data)."""
    headers = {} if after is None else {"Last-Event-ID": str(after)}
    with service.client() as client:
        answer = client.get(f"/jobs/{job_id}/events", headers=headers)
    assert answer.status_code == 200
    ids = [int(line[4:]) for line in answer.text.splitlines() if line.startswith("id: ")]
    return [(number, *event) for number, event in zip(ids, events(answer.text), strict=True)]


def test_a_report_is_made_and_can_be_followed_from_its_first_event_to_its_last(service):
    answer = ask(service, REPORT)
    job_id = answer.json()["job_id"]
    assert answer.headers["location"] == f"/jobs/{job_id}"
    told = follow(service, job_id)
    assert [number for number, _, _ in told] == list(range(1, len(told) + 1))
    assert [kind for _, kind, _ in told][:2] == ["job_queued", "job_started"]
    assert told[-1][1] == "job_completed"
    assert all(data["job_id"] == job_id and data["at"] > 1e9 for _, _, data in told)
    steps = [data["step"] for _, kind, data in told if kind == "step_completed"]
    assert sorted(steps) == ["analyse:1", "analyse:2", "analyse:3", "compose", "gather"]
    assert all(data["attempt"] == 1 for _, kind, data in told if kind.startswith("step_"))
    job = until(service, job_id, "completed")
    assert job["progress"] == 1.0
    assert job["result"]["citations"]


def test_the_bar_of_a_job_s_duration_leads_to_its_trace(service):
    until(service, ask(service, REPORT).json()["job_id"], "completed")
    with service.client() as client:
        text = client.get("/metrics", headers={"Accept": "application/openmetrics-text; version=1.0.0"}).text
    bars = [line for line in text.splitlines() if line.startswith('forebay_job_duration_seconds_bucket{kind="report"')]
    assert any(re.search('# {trace_id="[0-9a-f]{32}"}', bar) for bar in bars), bars


def test_a_reader_goes_on_after_the_last_event_that_it_has_seen(service):
    job_id = ask(service, REPORT).json()["job_id"]
    whole = follow(service, job_id)
    for after in (0, 3, len(whole) - 1):
        assert follow(service, job_id, after) == whole[after:]
    assert follow(service, job_id, len(whole)) == []


def test_documents_that_were_ingested_are_evidence_for_the_next_turn(service):
    document = {"title": "Recall of the Quuxifier", "text": "The Quuxifier was recalled in Delft because of its plug."}
    answer = ask(service, {"kind": "document_ingestion", "input": {"documents": [document]}})
    assert until(service, answer.json()["job_id"], "completed")["result"]["passages"] == 1
    with service.client() as client:
        body = {"session_id": "q", "message": "Where was the Quuxifier recalled?", "model": "sim:tokens=2"}
        turn = client.post("/chat/stream", json=body)
    found = next(data for kind, data in events(turn.text) if kind == "retrieval_completed")
    assert found["documents"][0]["title"] == document["title"]


def test_a_turn_in_the_background_is_answered_in_its_session(service):
    with service.client() as client:
        body = {"session_id": "later", "message": "Hello?", "model": "sim:tokens=4", "background": True}
        answer = client.post("/chat/stream", json=body)
        assert (answer.status_code, answer.json()["kind"]) == (202, "chat")
        job = until(service, answer.json()["job_id"], "completed")
        messages = client.get("/sessions/later/messages").json()["messages"]
    assert messages[1]["text"] == job["result"]["text"]


def test_a_running_job_is_stopped_within_a_second(service):
    job_id = ask(service, {"kind": "chat", "input": ENDLESS}).json()["job_id"]
    until(service, job_id, "running")
    with service.client() as client:
        assert client.post(f"/jobs/{job_id}/cancel").json() == {"job_id": job_id, "status": "cancelling"}
        before = time.monotonic()
        until(service, job_id, "cancelled")
        assert time.monotonic() - before < 3.0  # a second, and what a busy machine adds
        assert client.post(f"/jobs/{job_id}/cancel").status_code == 409
    assert follow(service, job_id)[-1][1] == "job_cancelled"


def test_what_waits_is_told_its_position_and_cancelled_at_once(service):
    running = [ask(service, {"kind": "chat", "input": ENDLESS}).json()["job_id"] for _ in range(4)]
    for job_id in running:
        until(service, job_id, "running")
    waiting = [ask(service, REPORT).json() for _ in range(2)]
    assert [job["position"] for job in waiting] == [1, 2]
    with service.client() as client:
        for job in waiting:
            assert client.post(f"/jobs/{job['job_id']}/cancel").json()["status"] == "cancelled"
        for job_id in running:
            client.post(f"/jobs/{job_id}/cancel")
    for job_id in running:
        until(service, job_id, "cancelled")


def test_the_same_key_is_the_same_job(service):
    first, again = [ask(service, REPORT, **{"Idempotency-Key": "k1"}) for _ in range(2)]
    assert first.json()["job_id"] == again.json()["job_id"]
    assert again.headers["idempotent-replayed"] == "true"
    with service.client() as client:
        other = client.post("/jobs", json=REPORT | {"priority": 0}, headers={"Idempotency-Key": "k1"})
    assert (other.status_code, other.json()["code"]) == (409, "conflict")


def test_the_list_has_pages_from_the_newest_to_the_oldest(service):
    made = [ask(service, REPORT).json()["job_id"] for _ in range(3)]
    with service.client() as client:
        page = client.get("/jobs", params={"limit": 2}).json()
        after = client.get("/jobs", params={"limit": 1, "before": page["next"]}).json()
        assert [job["job_id"] for job in (*page["jobs"], *after["jobs"])] == made[::-1]
        assert client.get("/jobs", params={"limit": 0}).status_code == 422


def test_the_list_can_be_of_one_kind(service):
    made = [ask(service, REPORT).json()["job_id"] for _ in range(2)]
    with service.client() as client:
        client.post("/jobs", json={"kind": "document_ingestion", "input": {"documents": [{"title": "T", "text": "t"}]}})
        page = client.get("/jobs", params={"kind": "report", "limit": 1}).json()
        after = client.get("/jobs", params={"kind": "report", "limit": 1, "before": page["next"]}).json()
        assert [job["job_id"] for job in (*page["jobs"], *after["jobs"])] == made[::-1]
        refused = client.get("/jobs", params={"kind": "dream"})
        assert (refused.status_code, refused.json()["detail"][:26]) == (422, "kind: must be one of chat,")


@pytest.mark.parametrize("path", ["/jobs/job_0", "/jobs/job_0/events"])
def test_a_job_that_is_not_there_is_404(service, path):
    with service.client() as client:
        assert client.get(path).status_code == 404
        assert client.post("/jobs/job_0/cancel").status_code == 404
        assert client.get(path, headers={"Authorization": "Bearer no"}).status_code == 401


def test_a_reader_that_leaves_leaves_nothing_behind(service):
    job_id = ask(service, {"kind": "chat", "input": ENDLESS}).json()["job_id"]
    with service.client() as client, client.stream("GET", f"/jobs/{job_id}/events") as stream:
        assert next(stream.iter_lines()) == "id: 1"
    with service.client() as client:
        client.post(f"/jobs/{job_id}/cancel")
    until(service, job_id, "cancelled")
    assert not service.lines("bug")


def test_the_books_are_right_at_the_end(service):
    def sums(name):
        return service.metric(f"forebay_{name}", route="/jobs")

    assert sums("requests_started_total") == sums("requests_total")
    assert sums("requests_in_flight") == 0
    job_id = ask(service, REPORT).json()["job_id"]
    until(service, job_id, "completed")
    deadline = time.monotonic() + 30
    while service.metric("forebay_jobs_running") or service.metric("forebay_concurrency_in_use", resource="jobs"):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert service.metric("forebay_jobs_total", kind="report", outcome="completed") >= 1
    assert not service.lines("bug")
    assert not service.lines("label_refused")


def test_a_drain_ends_readers_and_gives_work_back_to_the_next_process(tmp_path):
    slow = {"kind": "report", "input": {"question": "C-1042?", "model": "sim:ttft_ms=2500,tokens=2"}}
    config = CONFIG + "\n[server]\ndrain_seconds = 1\n"
    with Service(tmp_path, config) as first:
        job_id = ask(first, slow).json()["job_id"]
        until(first, job_id, "running")
        with first.client() as client, client.stream("GET", f"/jobs/{job_id}/events") as stream:
            lines = stream.iter_lines()
            assert next(lines) == "id: 1"
            first.process.terminate()
            rest = list(lines)  # the stream is ended, not cut
        assert "event: job_completed" not in rest
        assert first.stop() == 0
    with Service(tmp_path, config) as second:
        assert until(second, job_id, "completed")["result"]["answer"]
        told = follow(second, job_id)
        assert [number for number, _, _ in told] == list(range(1, len(told) + 1))
        completed = [data["step"] for _, kind, data in told if kind == "step_completed"]
        assert sorted(completed) == sorted(set(completed))
        assert second.metric("forebay_jobs_recovered_total") == 0  # it was given back, not lost
