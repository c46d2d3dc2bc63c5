"""The service on Temporal as operators run it: processes that hang, a server that goes, what /readyz and doctor say."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from tests.commands import forebay
from tests.contract.temporal_server import TemporalServer
from tests.e2e.test_jobs_proof import Worker, log_of
from tests.process import SIMULATED, Service
from tests.support import free_port, until

TURN = {"session_id": "s", "message": "?", "model": "sim:ttft_ms=100,tokens=60,interval_ms=50"}  # 3 s


def config(address):
    return f'{SIMULATED}\n[jobs]\nengine = "temporal"\ntemporal_address = "{address}"\nconcurrency = 1\n'


@pytest.fixture
def temporal(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
    with TemporalServer(tmp_path) as server:
        yield server


@pytest.fixture
def service(temporal, tmp_path):
    with Service(tmp_path, config(temporal.address)) as running:
        yield running


def ask(client, number):
    answer = client.post("/jobs", json={"kind": "chat", "input": TURN | {"session_id": f"s{number}"}})
    assert answer.status_code == 202, answer.text
    return answer.json()["job_id"]


def statuses(client, job_ids):
    return [client.get(f"/jobs/{job_id}").json()["status"] for job_id in job_ids]


def story(client, job_ids):
    return [(client.get(f"/jobs/{job_id}").json(), log_of(client, job_id)) for job_id in job_ids]


def temporal_is(client, state):
    return client.get("/readyz").json()["dependencies"]["temporal"] == state


def test_a_worker_that_hangs_loses_its_job_and_writes_nothing_when_it_wakes(service):
    worker = Worker(service)
    try:
        worker.wait_until_it_works()
        with service.client() as client:
            until(lambda: temporal_is(client, "ready"))
            first = [ask(client, number) for number in range(2)]  # one for each process
            until(lambda: statuses(client, first) == ["running", "running"])
            os.kill(worker.process.pid, signal.SIGSTOP)
            until(lambda: statuses(client, first) == ["completed", "completed"], seconds=120)
            os.kill(worker.process.pid, signal.SIGCONT)
            second = [ask(client, number) for number in range(2, 4)]
            until(lambda: statuses(client, second) == ["running", "running"])  # it is awake, and has found out
            until(lambda: statuses(client, second) == ["completed", "completed"], what=lambda: story(client, second))
            logs = [log_of(client, job_id) for job_id in (*first, *second)]
            assert sorted(kinds.count("job_started") for kinds, _ in logs) == [1, 1, 1, 2]
            for kinds, finished in logs:
                assert finished == ["answer"]
                assert kinds.count("job_completed") == 1
                assert kinds[-1] == "job_completed"
        assert service.metric("forebay_jobs_recovered_total") == 1
    finally:
        code = worker.end(kill=False)
    assert code == 0


def test_without_temporal_the_service_is_degraded_and_takes_jobs_that_are_done_later(service, temporal):
    with service.client() as client:
        until(lambda: temporal_is(client, "ready"))
        temporal.kill()
        until(lambda: temporal_is(client, "failed"))
        answer = client.get("/readyz")
        assert (answer.status_code, answer.json()["status"]) == (200, "degraded")
        job_id = ask(client, 1)
        temporal.start()
        until(lambda: statuses(client, [job_id]) == ["completed"])
        until(lambda: temporal_is(client, "ready"))
    assert service.stop() == 0


def test_a_service_starts_without_temporal_and_says_so(tmp_path):
    address = f"127.0.0.1:{free_port()}"
    with Service(tmp_path, config(address)) as service, service.client() as client:
        until(lambda: temporal_is(client, "failed"))
        (said, *_) = until(lambda: service.lines("temporal_unusable"))
        assert (said["address"], said["failure"]) == (address, "it cannot be reached")
        assert statuses(client, [ask(client, 1)]) == ["queued"]
        assert service.stop() == 0


def test_doctor_reaches_the_namespace_and_says_what_is_wrong_with_it(temporal, tmp_path):
    path = tmp_path / "forebay.toml"
    path.write_text(config(temporal.address), encoding="utf-8")
    where = ("--config", path, "--data-dir", tmp_path / "data")
    said = forebay("doctor", *where).stdout
    assert f"ok      Temporal: {temporal.address}, namespace default; ForebayKind" in said
    path.write_text(config(temporal.address) + 'temporal_namespace = "other"\n', encoding="utf-8")
    said = forebay("doctor", *where).stdout
    assert f"failed  Temporal: {temporal.address}: not_found, for the namespace other" in said
    path.write_text(config(f"127.0.0.1:{free_port()}"), encoding="utf-8")
    assert "it cannot be reached" in forebay("doctor", *where).stdout
