"""The metrics of several worker processes as one: right totals at every moment, and nothing left of the dead.

Prometheus scrapes one address and meets any worker. So each keeps its values in files of a shared directory
(prometheus_client's multiprocess mode: mapped memory, hence right even after kill -9) and the one that is asked adds
them up. A worker holds a lock for as long as it lives. Whoever renders next finds the lock of a dead one free: its
gauges are deleted and its counters, which must never go down, are added to one file of the departed.

The supervisor calls `prepare` before it starts the workers; telemetry's start calls `claim` in each of them.
"""

from __future__ import annotations

import fcntl
import os
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from prometheus_client import CollectorRegistry
from prometheus_client.mmap_dict import MmapedDict
from prometheus_client.multiprocess import MultiProcessCollector

VARIABLE = "PROMETHEUS_MULTIPROC_DIR"  # prometheus_client reads it when it is imported


def prepare(directory: Path) -> None:
    """Empty `directory` and tell the processes started from here on to share their metrics in it."""
    directory.mkdir(parents=True, exist_ok=True)
    for left in (*directory.glob("*.db"), *directory.glob("*.lock")):
        left.unlink()
    os.environ[VARIABLE] = str(directory)


def shared_directory() -> Path | None:
    """Return where the workers share their metrics; None if this process is the only one."""
    name = os.environ.get(VARIABLE)
    return Path(name) if name else None


def claim(directory: Path) -> TextIO:
    """Lock this process's name until the file is closed, or the process ends in whatever way."""
    lock = (directory / f"{os.getpid()}.lock").open("w")
    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    return lock


@contextmanager
def totals(directory: Path) -> Iterator[CollectorRegistry]:
    """Yield a registry that adds up every worker, to be read before the block ends."""
    with (directory / "reading").open("w") as gate:
        fcntl.flock(gate, fcntl.LOCK_EX)  # nobody reads while a dead worker's counters move from file to file
        for lock in directory.glob("*.lock"):
            _bury_if_dead(directory, lock)
        registry = CollectorRegistry()
        MultiProcessCollector(registry, str(directory))  # type: ignore[no-untyped-call]  # theirs
        yield registry


def _bury_if_dead(directory: Path, lock: Path) -> None:
    with lock.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return
        for gauges in directory.glob(f"gauge_*_{lock.stem}.db"):
            gauges.unlink()
        for kind in ("counter", "histogram"):
            _add_to_departed(directory / f"{kind}_departed.db", directory / f"{kind}_{lock.stem}.db")
        lock.unlink()


def _add_to_departed(departed: Path, dead: Path) -> None:
    if not dead.exists():
        return
    sums: dict[str, float] = defaultdict(float)
    for file in (departed, dead):
        if file.exists():
            for key, value, _, _ in MmapedDict.read_all_values_from_file(str(file)):  # type: ignore[no-untyped-call]
                sums[key] += value
    written = departed.with_suffix(".new")
    written.unlink(missing_ok=True)
    merged = MmapedDict(str(written))  # type: ignore[no-untyped-call]  # theirs
    for key, value in sums.items():
        merged.write_value(key, value, 0.0)  # type: ignore[no-untyped-call]  # theirs
    merged.close()  # type: ignore[no-untyped-call]  # theirs
    dead.unlink()
    written.replace(departed)
