"""Evaluations over real sockets: drawn from a real service's turns, asked for at /jobs, done by `forebay worker`."""

import subprocess
import sys

import pytest

from service.jobs.evaluators import EVALUATORS
from tests.http.test_jobs import ENDLESS, ask, follow, until
from tests.process import SIMULATED, Service, events
from tests.support import PATIENCE
from tests.support import until as wait
from tests.telemetry.otlp_sink import OtlpSink

CONFIG = SIMULATED + "\n[evaluation]\nsample_ratio = 1.0\n"
NAMES = [evaluator.name for evaluator in EVALUATORS]
TURN = {"session_id": "s", "message": "What is case C-1042 about?", "model": "sim:tokens=80,ttft_ms=1,interval_ms=1"}


@pytest.fixture(scope="module")
def service(tmp_path_factory):
    with Service(tmp_path_factory.mktemp("evaluation"), CONFIG) as running:
        yield running


def answered(service, **more):
    """Have one turn answered; return the id of its message."""
    with service.client() as client:
        answer = client.post("/chat/stream", json=TURN | more)
    return next(data["message_id"] for kind, data in events(answer.text) if kind == "message_completed")


def evaluations(service):
    with service.client() as client:
        jobs = client.get("/jobs", params={"limit": 100}).json()["jobs"]
    return [job for job in jobs if job["kind"] == "evaluation"]


def one_of(service, message_id):
    """Wait for the evaluation of this answer, and return its job."""

    def found():
        jobs = [job for job in evaluations(service) if job["status"] == "completed"]
        return next((job for job in jobs if (job["result"] or {}).get("message_id") == message_id), None)

    return wait(found, what="the evaluation of an answer has ended")


def test_every_turn_is_judged_after_its_end_and_told_at_jobs_and_in_the_metrics(service):
    before = {name: service.metric("forebay_evaluation_score_count", evaluator=name) for name in NAMES}
    job = one_of(service, answered(service))
    assert {score["evaluator"]: score["label"] for score in job["result"]["scores"]} == dict.fromkeys(NAMES, "pass")
    assert all(0.5 <= score["score"] <= 1.0 for score in job["result"]["scores"])
    for name in NAMES:
        service.comes_to(before[name] + 1, "forebay_evaluation_score_count", evaluator=name)
        assert service.metric("forebay_evaluations_total", evaluator=name, label="pass") >= 1
    assert service.metric("forebay_evaluations_sampled_total", outcome="queued") >= 1
    steps = [data["step"] for _, kind, data in follow(service, job["job_id"]) if kind == "step_completed"]
    assert steps == NAMES


def test_an_answer_of_ones_own_is_judged_again_when_it_is_asked_for(service):
    message_id = answered(service)
    job_id = ask(service, {"kind": "evaluation", "input": {"message_id": message_id}}).json()["job_id"]
    assert until(service, job_id, "completed")["result"] == one_of(service, message_id)["result"]


def test_an_answer_that_is_not_there_fails_and_a_wrong_input_is_refused_by_its_field(service):
    job_id = ask(service, {"kind": "evaluation", "input": {"message_id": "msg_of_somebody_else"}}).json()["job_id"]
    assert until(service, job_id, "failed")["error_code"] == "not_found"
    with service.client() as client:
        answer = client.post("/jobs", json={"kind": "evaluation", "input": {"message_id": ""}})
    assert (answer.status_code, answer.json()["detail"]) == (422, "input.message_id: not valid (string_too_short)")


def test_a_worker_alone_judges_what_the_serving_process_has_no_place_for(tmp_path):
    with Service(tmp_path, CONFIG + "\n[jobs]\nconcurrency = 1\n") as service:
        busy = ask(service, {"kind": "chat", "input": ENDLESS}).json()["job_id"]
        until(service, busy, "running")
        message_id = answered(service)
        service.comes_to(1, "forebay_evaluations_sampled_total", outcome="queued")
        assert [job["status"] for job in evaluations(service)] == ["queued"]
        command = [sys.executable, "-m", "service", "worker", "--config", str(tmp_path / "forebay.toml")]
        worker = subprocess.Popen([*command, "--data-dir", str(tmp_path / "data")], stderr=subprocess.DEVNULL)
        try:
            assert [score["label"] for score in one_of(service, message_id)["result"]["scores"]] == ["pass", "pass"]
        finally:
            worker.terminate()
            assert worker.wait(PATIENCE) == 0
        assert service.metric("forebay_evaluations_total") == 0  # not here
        with service.client() as client:
            client.post(f"/jobs/{busy}/cancel")
        until(service, busy, "cancelled")


def test_a_collector_is_told_of_a_judgement_on_the_step_that_made_it_linked_to_the_turn(tmp_path):
    with OtlpSink() as sink, Service(tmp_path, f'{CONFIG}[telemetry]\notlp_endpoint = "{sink.url}"\n') as service:
        message_id = answered(service)
        one_of(service, message_id)
        wait(lambda: any(span["name"] == "job evaluation" for span in sink.wait_for(1)))  # its steps ended before it
        told = [span for span in sink.wait_for(1) if span["name"] == "job.step"]
    for span, name in zip(told, NAMES, strict=True):
        ((event, said),) = span["events"]
        assert event == "gen_ai.evaluation.result"
        assert 0.5 <= said.pop("gen_ai.evaluation.score.value") <= 1.0
        assert said == {
            "gen_ai.evaluation.name": name,
            "gen_ai.evaluation.score.label": "pass",
            "gen_ai.response.id": message_id,
        }
    assert not [body for body in sink.bodies if b"What is case" in body]


def test_nothing_went_wrong_unnoticed(service):
    answered(service)
    assert not service.lines("bug")
    assert not service.lines("label_refused")
