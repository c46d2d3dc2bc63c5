"""What a process costs: CPU and memory of it and its children, from the kernel's own accounting."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Self

PAGE = os.sysconf("SC_PAGESIZE")


def _tree(pid: int) -> list[int]:
    found, ahead = [], [pid]
    while ahead:
        current = ahead.pop()
        found.append(current)
        for children in Path(f"/proc/{current}/task").glob("*/children"):
            ahead += [int(child) for child in children.read_text().split()]
    return found


def cpu_seconds(pid: int) -> float:
    """CPU time of a process tree so far, in seconds, thread by thread, to the nanosecond."""
    return sum(
        int(stat.read_text().split()[0]) / 1e9 for one in _tree(pid) for stat in Path(f"/proc/{one}/task").glob("*/schedstat")
    )


def resident_bytes(pid: int) -> int:
    """Resident memory of a process tree."""
    return sum(int(Path(f"/proc/{one}/statm").read_text().split()[1]) * PAGE for one in _tree(pid))


def free_port() -> int:
    """A port that nobody listens on at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Server:
    """One of servers.py, running."""

    def __init__(self, name: str, *arguments: str) -> None:
        self.port = free_port()
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.benchmarks.servers", name, str(self.port), *arguments]
        )
        self.url = f"http://127.0.0.1:{self.port}"
        _until_open(self.port)

    @property
    def pid(self) -> int:
        return self.process.pid

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()


def _until_open(port: int, seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    raise TimeoutError(f"nobody listens on {port}")
