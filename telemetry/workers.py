"""The metrics of several worker processes as one: right totals at every moment, and nothing left of the dead.

Prometheus scrapes one address and meets any worker. So each keeps its values in files of a shared directory
(prometheus_client's multiprocess mode: mapped memory, hence right even after kill -9) and the one that is asked adds
them up. A worker holds a lock for as long as it lives. Whoever renders next finds the lock of a dead one free: its
gauges are deleted and its counters, which must never go down, are added to one file of the departed. The requests that
it was answering have ended with it: they are counted as `errored`, or their sum would be wrong for good.

The supervisor calls `prepare` before it starts the workers; telemetry's start calls `claim` in each of them.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from prometheus_client import CollectorRegistry
from prometheus_client.mmap_dict import MmapedDict
from prometheus_client.multiprocess import MultiProcessCollector

from telemetry.catalogue import REQUESTS_IN_FLIGHT, REQUESTS_TOTAL

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
        gauges = tuple(directory.glob(f"gauge_*_{lock.stem}.db"))
        cut_off = _cut_off(gauges)
        for kind in ("counter", "histogram"):
            _add_to_departed(directory / f"{kind}_departed.db", directory / f"{kind}_{lock.stem}.db", cut_off)
        for file_of_gauges in gauges:  # after the counters: nobody may count the same requests again
            file_of_gauges.unlink()
        lock.unlink()


def _cut_off(gauges: Iterable[Path]) -> dict[str, float]:
    """Return how many requests of each route a dead worker was answering."""
    values = ((*_series(key), value) for file in gauges for key, value in _values(file))
    return {labels["route"]: value for name, labels, value in values if name == REQUESTS_IN_FLIGHT.name}


def _add_to_departed(departed: Path, dead: Path, cut_off: Mapping[str, float]) -> None:
    """Add a dead worker's file to that of the departed, and to `errored` what it was answering."""
    if not dead.exists():
        return
    sums: dict[str, float] = defaultdict(float)
    for file in (departed, dead):
        for key, value in _values(file):
            sums[key] += value
    for key in sums:
        name, labels = _series(key)
        if name == REQUESTS_TOTAL.name and labels["outcome"] == "errored":
            sums[key] += cut_off.get(labels["route"], 0.0)
    written = departed.with_suffix(".new")
    written.unlink(missing_ok=True)
    merged = MmapedDict(str(written))  # type: ignore[no-untyped-call]  # theirs
    for key, value in sums.items():
        merged.write_value(key, value, 0.0)  # type: ignore[no-untyped-call]  # theirs
    merged.close()  # type: ignore[no-untyped-call]  # theirs
    dead.unlink()
    written.replace(departed)


def _values(file: Path) -> list[tuple[str, float]]:
    """Return what a file of prometheus_client's holds, by its key; nothing if there is none."""
    if not file.exists():
        return []
    return [(key, value) for key, value, _, _ in MmapedDict.read_all_values_from_file(str(file))]  # type: ignore[no-untyped-call]  # theirs


def _series(key: str) -> tuple[str, dict[str, str]]:
    """Return the name and the labels in a key (prometheus_client.mmap_dict.mmap_key)."""
    _, name, labels, _ = json.loads(key)
    return name, labels
