import contextlib
import json
import os
import subprocess
import sys

import pytest
from prometheus_client.parser import text_string_to_metric_families

from telemetry import workers
from tests.support import PATIENCE

STARTED = ("forebay_requests_started_total", "/chat/stream")
IN_USE = ("forebay_concurrency_in_use", "requests")
BUDGET = ("forebay_phase_budget_seconds", "rerank")
DURATIONS = ("forebay_phase_duration_seconds_count", "rerank")


class Worker:
    def __init__(self):
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.telemetry.worker"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert json.loads(self.process.stdout.readline()) == "ready"

    def do(self, order):
        self.process.stdin.write(order + "\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())

    def shows(self, *wanted):
        """Return the values that /metrics of this worker shows."""
        families = text_string_to_metric_families(self.do("render"))
        values = {(s.name, *s.labels.values()): s.value for family in families for s in family.samples}
        return [values.get(key) for key in wanted]

    def kill(self):
        self.process.kill()
        self.process.communicate(timeout=PATIENCE)

    def leave(self):
        self.process.communicate(timeout=PATIENCE)


@pytest.fixture
def start(tmp_path, monkeypatch):
    monkeypatch.setenv(workers.VARIABLE, "")
    workers.prepare(tmp_path)
    started = []

    def one():
        started.append(Worker())
        return started[-1]

    yield one
    for worker in started:
        with contextlib.suppress(ValueError):  # its pipes are closed: it has left already
            worker.kill()


def test_any_worker_shows_the_totals_of_all(start):
    one, two = start(), start()
    one.do("count 3")
    two.do("count 4")
    one.do("gauge 5")
    two.do("gauge 2")
    one.do("budget 0.3")
    two.do("budget 0.3")
    for worker in (one, two):
        assert worker.shows(STARTED, IN_USE, BUDGET, DURATIONS) == [7, 7, 0.3, 2]


def test_a_killed_worker_leaves_its_counts_and_nothing_else(start, tmp_path):
    one, two = start(), start()
    one.do("count 3")
    one.do("gauge 5")
    two.do("count 4")
    one.kill()
    assert two.shows(STARTED, IN_USE, DURATIONS) == [7, 0, 2]
    assert not list(tmp_path.glob(f"*_{one.process.pid}.db"))
    assert not (tmp_path / f"{one.process.pid}.lock").exists()


def test_what_a_killed_worker_was_answering_is_counted_as_errored_once(start):
    errored = ("forebay_requests_total", "errored", "/chat/stream")
    in_flight = ("forebay_requests_in_flight", "/chat/stream")
    one, two, three = start(), start(), start()
    for worker in (one, two):
        worker.do("count 3")
        worker.do("flight 2")
    assert three.shows(STARTED, errored, in_flight) == [6, 0, 4]
    one.kill()
    for _ in range(2):
        assert three.shows(STARTED, errored, in_flight) == [6, 2, 2]
    two.kill()
    assert three.shows(STARTED, errored, in_flight) == [6, 4, 0]


def test_totals_do_not_fall_while_workers_come_and_go(start, tmp_path):
    observer, total = start(), 0
    for _ in range(3):
        worker = start()
        worker.do("count 2")
        total += 2
        assert observer.shows(STARTED) == [total]
        worker.kill()
        assert observer.shows(STARTED) == [total]
        assert observer.shows(STARTED) == [total]
    assert len(list(tmp_path.glob("counter_*.db"))) == 2, "its own and that of the departed"


def test_a_worker_that_leaves_in_peace_leaves_nothing_but_its_counts(start):
    one, two = start(), start()
    one.do("count 3")
    one.do("gauge 5")
    one.leave()
    assert two.shows(STARTED, IN_USE) == [3, 0]


def test_every_series_is_there_at_0_before_anything_happened(start):
    assert start().shows(STARTED, IN_USE, DURATIONS) == [0, 0, 0]


def test_what_an_earlier_run_left_is_cleared(tmp_path, monkeypatch):
    monkeypatch.setenv(workers.VARIABLE, "")
    (tmp_path / "counter_1.db").write_bytes(b"old")
    (tmp_path / "1.lock").touch()
    workers.prepare(tmp_path)
    assert list(tmp_path.iterdir()) == []
    assert os.environ[workers.VARIABLE] == str(tmp_path)


def test_a_single_process_shares_nothing(monkeypatch):
    monkeypatch.delenv(workers.VARIABLE, raising=False)
    assert workers.shared_directory() is None
