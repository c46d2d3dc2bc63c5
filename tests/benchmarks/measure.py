"""What a process costs, by the kernel's accounting, and how variants are compared: in turn or at once, by ratios."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

PAGE = os.sysconf("SC_PAGESIZE")

Numbers = dict[str, float]


def _tree(pid: int) -> list[int]:
    found, ahead = [], [pid]
    while ahead:
        current = ahead.pop()
        found.append(current)
        for children in Path(f"/proc/{current}/task").glob("*/children"):
            ahead += [int(child) for child in children.read_text().split()]
    return found


def cpu_seconds(pid: int, *, children: bool = True) -> float:
    """CPU time of a process, and of those below it, in seconds so far, to the nanosecond."""
    processes = _tree(pid) if children else [pid]
    return sum(time.clock_gettime((~one << 3) | 2) for one in processes)  # clock_getcpuclockid(3), as Linux has it


def thread_seconds(pid: int) -> float:
    """CPU time of a process's main thread in seconds so far."""
    return int(Path(f"/proc/{pid}/task/{pid}/schedstat").read_text().split()[0]) / 1e9


def resident_bytes(pid: int) -> int:
    """Resident memory of a process tree."""
    return sum(int(Path(f"/proc/{one}/statm").read_text().split()[1]) * PAGE for one in _tree(pid))


def free_port() -> int:
    """A port that nobody listens on at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Server:
    """A program that is measured, running: `python -m tests.benchmarks.servers NAME PORT …`, or another module."""

    def __init__(self, name: str, *arguments: str, module: str = "tests.benchmarks.servers", python: str = "") -> None:
        self.port = free_port()
        command = [python or sys.executable, "-m", module, name, str(self.port), *arguments]
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        self.url = f"http://127.0.0.1:{self.port}"
        try:
            until_open(self.port, self.process)
        except BaseException:
            self.process.kill()
            raise

    @property
    def pid(self) -> int:
        return self.process.pid

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.terminate()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def until_open(port: int, process: subprocess.Popen, seconds: float = 90.0) -> None:
    """Wait until somebody listens on `port`; raise if `process` ends before."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise RuntimeError(f"it has ended: {process.args}")
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    raise TimeoutError(f"nobody listens on {port}")


# --- comparing --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Spread:
    """A number that was measured several times."""

    median: float
    least: float
    most: float

    def __str__(self) -> str:
        digits = 2 if self.median < 10 else 1 if self.median < 100 else 0
        return f"{self.median:.{digits}f} ({self.least:.{digits}f} to {self.most:.{digits}f})"

    def plain(self) -> Numbers:
        return {"median": self.median, "min": self.least, "max": self.most}


def spread(values: Iterable[float]) -> Spread:
    """The median of `values`, and their range."""
    given = sorted(values)
    return Spread(median(given), given[0], given[-1])


Rounds = list[dict[str, Numbers]]


def interleaved(variants: Mapping[str, Callable[[], Numbers]], rounds: int) -> Rounds:
    """Measure every variant once for warming up, then all of them in turn, `rounds` times.

    What changes on the machine meanwhile meets them all alike; every other round goes backwards.
    """
    for measure in variants.values():
        measure()
    found: Rounds = []
    for number in range(rounds):
        order = list(variants)[:: -1 if number % 2 else 1]
        found.append({name: variants[name]() for name in order})
    return found


def side_by_side(variants: Mapping[str, Callable[[], Numbers]], rounds: int) -> Rounds:
    """Measure every variant once for warming up, then all of them at the same time, `rounds` times.

    For differences of a few percent, where what is measured leaves the machine time to spare: its speed changes within
    seconds. The ratios of one program to itself had a standard deviation of 0.05 from round to round; in turn, 0.12.
    """
    for measure in variants.values():
        measure()
    found: Rounds = []
    with ThreadPoolExecutor(len(variants)) as threads:
        for _ in range(rounds):
            running = {name: threads.submit(measure) for name, measure in variants.items()}
            found.append({name: one.result() for name, one in running.items()})
    return found


def values(found: Rounds, name: str, column: str) -> Spread:
    """A column of a variant."""
    return spread(one[name][column] for one in found)


def ratios(found: Rounds, name: str, against: str, column: str) -> Spread:
    """A column of a variant as a multiple of another variant's, each round by itself."""
    return spread(one[name][column] / one[against][column] for one in found)
