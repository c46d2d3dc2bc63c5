"""Who this process is, and whether another one still runs: how a crash is noticed at once on one machine.

Read from Linux's /proc (man 5 proc). Elsewhere nothing is known, and the heartbeat alone decides.
"""

from __future__ import annotations

import os
from pathlib import Path

from service.store.values import Process

_PROC = Path("/proc")
_START_TIME = 19  # field 22 of /proc/PID/stat, counted from the state, which follows the name in parentheses
_DEAD_STATES = ("Z", "X")  # killed but not yet waited for by its parent; being removed


def this_process() -> Process:
    """Return the identity of this process; an empty one where /proc is missing. Reads files: not for the event loop."""
    pid = os.getpid()
    try:
        boot = (_PROC / "sys/kernel/random/boot_id").read_text().strip()
        # Containers of one machine share its boot, but count their pids each for itself.
        pids = (_PROC / "self/ns/pid").stat().st_ino
    except OSError:
        return Process()
    started = _start_time(pid)
    return Process(f"{boot}:{pids}", pid, started) if started else Process()


def is_running(process: Process) -> bool:
    """Tell whether `process`, of this host, still runs. Reads files: not for the event loop."""
    return _start_time(process.pid) == process.started


def _start_time(pid: int) -> str:
    """Return when `pid` was started, in clock ticks since the boot; "" if it does not run."""
    try:
        stat = (_PROC / str(pid) / "stat").read_text()
    except OSError:
        return ""
    fields = stat.rpartition(")")[2].split()
    return "" if fields[0] in _DEAD_STATES else fields[_START_TIME]
