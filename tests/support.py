"""What tests of every folder ask for: programs that may be missing, ports, patience, and how often a proof repeats."""

from __future__ import annotations

import itertools
import os
import shutil
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import pytest

T = TypeVar("T")
PROOF = os.environ.get("FOREBAY_PROOF") == "1"
DAY = 86_400.0  # seconds
PATIENCE = 60.0  # seconds: the bound of every wait for another process; reached only by a failing test

# Where Debian keeps programs that are not on everybody's PATH.
_ELSEWHERE = ("usr/sbin", "usr/lib/postgresql/*/bin")

# Below the ports that Linux gives to outgoing connections: nobody gets one of these by chance before it is listened on.
_PORTS = itertools.cycle(range(20_000, 32_000))
for _ in range(os.getpid() * 13 % 12_000):  # two runs at once begin at different ones
    next(_PORTS)


def require(program: str, install: str) -> str:
    """Return the path of `program`; skip the test with the line that installs it if it is not there.

    With FOREBAY_REQUIRE_ALL=1, as in CI, that skip is a failure (tests/conftest.py).
    """
    folders = [str(folder) for pattern in _ELSEWHERE for folder in sorted(Path("/").glob(pattern), reverse=True)]
    path = shutil.which(program, path=os.pathsep.join([os.environ.get("PATH", ""), *folders]))
    if path is None:
        pytest.skip(f"{program} is not installed: {install}")
    return path


def free_port() -> int:
    """Return a port of loopback that nobody has, for a program that cannot be told to take any; each only once."""
    for port in _PORTS:
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise AssertionError("unreachable: the ports go round")


def until(
    condition: Callable[[], T], seconds: float = PATIENCE, what: Callable[[], object] | str = "", every: float = 0.02
) -> T:
    """Wait until `condition()` is true and return it: it is looked at again and again, since who is waited for is
    another process, which tells nobody."""
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, f"not within {seconds} s: {what() if callable(what) else what}"
        time.sleep(every)  # real time: another process
    return found


def not_across_midnight(seconds: float = PATIENCE) -> None:
    """Let a day that is about to end end first: quotas begin anew at midnight UTC, in the middle of a test too."""
    if (left := DAY - time.time() % DAY) < seconds:
        time.sleep(left)  # real time: that of the service's clock


def proof_count(usual: int, full: int) -> int:
    """Return how often to repeat: `usual` on a laptop and in CI, `full` in `make proof` (FOREBAY_PROOF=1)."""
    return full if PROOF else usual
