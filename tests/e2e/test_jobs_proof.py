"""The proof of the jobs: worker processes are killed at random, and every job ends, with nothing done twice or lost.

One process serves and takes part in the work; three more only work. Two readers follow every job and break their
connection at random. On SQLite, on PostgreSQL and on Temporal, whose server is killed now and then as well; 50 jobs in
CI, 500 in `make proof`.
"""

from __future__ import annotations

import os
import queue
import random
import subprocess
import sys
import threading
import time
from collections import Counter
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest

from tests.contract.cluster import running_cluster
from tests.contract.temporal_server import TemporalServer
from tests.process import SIMULATED, Service
from tests.support import proof_count

JOBS = proof_count(50, 500)
WORKERS = 3
KILL_AFTER = (0.2, 2.0)  # seconds of work
SERVER_TOO = 5  # at every 5th kill, Temporal's server is killed too, and started again
ENOUGH = 120 + JOBS * 1.5  # seconds for all of it, on a busy machine
ENDED = ("completed", "failed", "cancelled")
LAST = ("job_completed", "job_failed", "job_cancelled")
REPORT = {"kind": "report", "input": {"question": "What is case C-1042?", "model": "sim:ttft_ms=800,tokens=10,seed=3"}}


def ingestion(number):
    text = f"Paper {number}. " + "Word after word after word. " * 60
    return {"kind": "document_ingestion", "input": {"documents": [{"title": f"Paper {number}", "text": text}]}}


def turn(number):
    body = {"session_id": f"s{number}", "message": "?", "model": "sim:ttft_ms=1500,tokens=10"}
    return {"kind": "chat", "input": body}


class Worker:
    """A running `forebay worker`."""

    def __init__(self, service: Service):
        command = [sys.executable, "-m", "service", "worker", "--config", str(service.folder / "forebay.toml")]
        if "state" not in (service.folder / "forebay.toml").read_text():
            command += ["--data-dir", str(service.folder / "data")]
        self.process = subprocess.Popen(
            command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, env={**os.environ}
        )
        self._works = False
        self._ready: queue.SimpleQueue[bool] = queue.SimpleQueue()
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self):
        for line in self.process.stderr:
            if "works on jobs" in line:
                self._ready.put(True)
        self._ready.put(False)

    def wait_until_it_works(self):
        if not self._works:
            self._works = self._ready.get(timeout=60)
            assert self._works

    def end(self, *, kill):
        (self.process.kill if kill else self.process.terminate)()
        code = self.process.wait(30)
        self._reader.join(30)
        self.process.stderr.close()
        return code


@pytest.fixture(params=["sqlite", "postgres", "temporal"])
def service(request, tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
    monkeypatch.chdir(tmp_path)  # beside a server's URL the data folder cannot be given: it is here
    config = SIMULATED + f"\n[jobs]\nqueue = {2 * JOBS}\ntenant_queue = {2 * JOBS}\n"
    with ExitStack() as opened:
        temporal = None
        if request.param == "temporal":
            temporal = opened.enter_context(TemporalServer(tmp_path))
            config += f'engine = "temporal"\ntemporal_address = "{temporal.address}"\n'
        if request.param == "postgres":
            url = opened.enter_context(opened.enter_context(running_cluster()).empty_database())
            config += f'[state]\nurl = "{url}"\n'
        running = opened.enter_context(Service(tmp_path, config))
        on_sqlite = request.param != "postgres"
        running.key = running.headers["Authorization"][7:] if on_sqlite else new_key(tmp_path / "forebay.toml")
        running.temporal = temporal
        yield running


def new_key(config):
    """Make a key as an operator does: beside the running service."""
    command = [sys.executable, "-m", "service", "key", "create", "--tenant", "demo", "--user", "ann"]
    done = subprocess.run([*command, "--config", config], check=True, capture_output=True, text=True, timeout=60)
    return done.stdout.splitlines()[-1]


def follow(service, headers, job_id, seen, chance):
    """Read a job's events to the end, breaking off at random and going on after the last one seen."""
    while not (seen and seen[-1][1] in LAST):
        after = {"Last-Event-ID": str(seen[-1][0])} if seen else {}
        try:
            with (
                httpx.Client(base_url=service.url, headers=headers, timeout=60, trust_env=False) as client,
                client.stream("GET", f"/jobs/{job_id}/events", headers=after) as stream,
            ):
                number = 0
                for line in stream.iter_lines():
                    if line.startswith("id: "):
                        number = int(line[4:])
                    elif line.startswith("event: "):
                        seen.append((number, line[7:]))
                        if chance.random() < 0.2:
                            break
        except httpx.TransportError:
            time.sleep(0.05)


def test_every_job_ends_whatever_is_killed_when(service):
    headers = {"Authorization": f"Bearer {service.key}"}
    chance = random.Random(7)
    workers = [Worker(service) for _ in range(WORKERS)]
    for worker in workers:
        worker.wait_until_it_works()
    started = time.monotonic()
    kills = 0
    with httpx.Client(base_url=service.url, headers=headers, timeout=60, trust_env=False) as client:
        first = client.post("/jobs", json=ingestion("C-1042")).json()["job_id"]  # evidence for the reports
        while client.get(f"/jobs/{first}").json()["status"] != "completed":
            time.sleep(0.1)
        bodies = [chance.choice([REPORT, ingestion(number), turn(number)]) for number in range(JOBS)]
        ids = [client.post("/jobs", json=body).json()["job_id"] for body in bodies]
        followed = {job_id: [] for job_id in chance.sample(ids, min(20, JOBS))}
        readers = [
            threading.Thread(target=follow, args=(service, headers, job_id, seen, random.Random(job_id)))
            for job_id, seen in followed.items()
        ]
        for reader in readers:
            reader.start()
        try:
            open_jobs = set(ids)
            while open_jobs:
                index = chance.randrange(WORKERS)
                workers[index].wait_until_it_works()
                time.sleep(chance.uniform(*KILL_AFTER))
                if kills < JOBS // 5:  # then the living get on with it
                    workers[index].end(kill=True)
                    kills += 1
                    workers[index] = Worker(service)
                    if service.temporal is not None and kills % SERVER_TOO == 0:
                        service.temporal.kill()
                        service.temporal.start()
                assert time.monotonic() - started < ENOUGH, f"{len(open_jobs)} jobs have not ended"
                open_jobs -= {one for one in open_jobs if client.get(f"/jobs/{one}").json()["status"] in ENDED}
            seconds = time.monotonic() - started
        finally:
            codes = [worker.end(kill=False) for worker in workers]
        for reader in readers:
            reader.join(60)
        jobs = [client.get(f"/jobs/{job_id}").json() for job_id in ids]
        logs = {job_id: log_of(client, job_id) for job_id in ids}

    outcomes = Counter(job["status"] for job in jobs)
    recovered = sum(kinds.count("job_started") > 1 for kinds, _ in logs.values())
    print(f"{JOBS} jobs, {kills} kills, {recovered} jobs begun more than once, {seconds:.0f} s: {dict(outcomes)}")  # noqa: T201
    assert outcomes == {"completed": JOBS}
    for job_id, (kinds, finished) in logs.items():
        assert [kind for kind in kinds if kind in LAST] == ["job_completed"], job_id
        assert kinds[-1] == "job_completed"
        assert max(Counter(finished).values()) == 1, "no finished step is recorded twice"
    for job_id, seen in followed.items():
        assert [number for number, _ in seen] == list(range(1, len(seen) + 1)), "no event is lost, twice or late"
        assert [kind for _, kind in seen] == logs[job_id][0]
    assert set(codes) <= {0, -15}  # the latter: told to end before it had begun


def log_of(client, job_id):
    """The types of a job's events in order, and the steps that it has finished."""
    kinds, finished = [], []
    text = client.get(f"/jobs/{job_id}/events").text
    for block in text.split("\n\n"):
        lines = dict(line.split(": ", 1) for line in block.splitlines() if ": " in line and not line.startswith(":"))
        if lines:
            kinds.append(lines["event"])
            if lines["event"] == "step_completed":
                finished.append(lines["data"].split('"step":"')[1].split('"')[0])
    return kinds, finished
