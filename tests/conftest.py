"""What holds for every test: nothing blocks the event loop, nothing is left behind, nothing is skipped in CI."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from pathlib import Path

import pytest
from blockbuster import BlockBuster
from hypothesis import HealthCheck, settings

from tests.support import PROOF, proof_count
from tests.virtual_loop import VirtualLoop

# A hundred services are started: what they import is compiled once, as a user's is, and not a sixth of each start.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

REQUIRE_ALL = os.environ.get("FOREBAY_REQUIRE_ALL") == "1"
GRACE = 30.0  # seconds for a thread or process that is ending to end

# Random examples are for `make proof`: everywhere else the same tests run each time, however slow the machine.
settings.register_profile(
    "forebay",
    deadline=None,
    derandomize=not PROOF,
    max_examples=proof_count(100, 2000),
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("forebay")


@pytest.fixture(scope="session", autouse=True)
def nothing_blocks_the_event_loop():
    """A blocking call below a coroutine of ours raises, whichever test it happens in."""
    detector = BlockBuster(scanned_modules=["service", "telemetry"])
    for name, function in detector.functions.items():
        if name.startswith("sqlite3."):  # the in-memory databases of virtual time are called inline, by design
            function.can_block_predicate = _in_virtual_time
        function.can_block_in(
            "logging/__init__.py", {"emit", "flush"}
        )  # a line to stderr: short, and buffered by a pipe
        function.can_block_in("traceback.py", {"walk_stack", "extract", "format_exc", "print_exc"})  # source lines
    detector.activate()
    yield
    detector.deactivate()


def _in_virtual_time(*_args, **_kwargs):
    return isinstance(asyncio.get_running_loop(), VirtualLoop)


@pytest.fixture(autouse=True)
def nothing_is_left_behind(monkeypatch):
    """A test ends its tasks, its threads and its processes."""
    tasks, cancel_all = [], asyncio.runners._cancel_all_tasks

    def noting(loop):
        if not isinstance(loop, VirtualLoop):  # which tells it by itself
            tasks.extend(repr(task) for task in asyncio.all_tasks(loop))
        cancel_all(loop)

    monkeypatch.setattr(asyncio.runners, "_cancel_all_tasks", noting)
    threads, processes = set(threading.enumerate()), _children()
    yield
    left = [
        *(f"task {task}" for task in tasks),
        *(f"thread {thread.name}" for thread in _after_grace(lambda: set(threading.enumerate()) - threads)),
        *(f"process {command}" for command in _after_grace(lambda: _started_since(processes))),
    ]
    assert not left, "left behind:\n" + "\n".join(left)


def _after_grace(what_is_left):
    """Return what is left when it stops getting less, or after a while."""
    deadline = time.monotonic() + GRACE
    while (left := what_is_left()) and time.monotonic() < deadline:
        time.sleep(0.01)  # real time: the machine tells nobody that a process has gone
    return left


def _started_since(before):
    """Return the commands of child processes that are not among those of `before`.

    By their ids alone: one that was seen between its fork and its exec has another command now.
    """
    return [command for child, command in _children().items() if child not in before]


def _children():
    """Return the commands of our child processes by id, without multiprocessing's own, which stay as long as we do.

    Linux says them; elsewhere there are none to see.
    """
    found = {}
    for children in Path("/proc/self/task").glob("*/children"):
        try:
            for child in children.read_text().split():
                command = Path(f"/proc/{child}/cmdline").read_text().replace("\0", " ")
                if "multiprocessing.resource_tracker" not in command:
                    found[int(child)] = command
        except OSError:
            continue  # a thread or a child that has just ended
    return found


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    return _no_skip((yield))


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(collector):
    return _no_skip((yield))


def _no_skip(report):
    if REQUIRE_ALL and report.skipped and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
        report.longrepr = f"skipped, although FOREBAY_REQUIRE_ALL=1: {report.longrepr[2]}"
    return report
