"""How busy the machine was with something else while a benchmark ran: what makes its numbers worth less."""

from __future__ import annotations

import os
import resource
import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

TICK = os.sysconf("SC_CLK_TCK")


@dataclass
class Noise:
    """Shares of the machine's CPU: `others` used by processes that are not ours, `stolen` given to other guests."""

    others: float = 0.0
    stolen: float = 0.0

    def plain(self) -> dict[str, float]:
        return {"others": round(self.others, 4), "stolen": round(self.stolen, 4)}


@contextmanager
def heard() -> Iterator[Noise]:
    """Listen while the block runs; it must wait for all processes that it starts, or they count as others'."""
    noise = Noise()
    began, before, ours = time.monotonic(), _machine(), _ours()
    try:
        yield noise
    finally:
        whole = (time.monotonic() - began) * (os.cpu_count() or 1)
        busy, stolen = (late - early for late, early in zip(_machine(), before, strict=True))
        noise.others = max(0.0, busy - (_ours() - ours)) / whole
        noise.stolen = stolen / whole


def _machine() -> tuple[float, float]:
    """Seconds of CPU since the start: used by anybody, and stolen (proc(5), /proc/stat)."""
    user, nice, system, _, _, irq, softirq, steal = map(int, Path("/proc/stat").read_text().split()[1:9])
    return (user + nice + system + irq + softirq) / TICK, steal / TICK


def _ours() -> float:
    """Seconds of CPU of this process and of all below it that have ended."""
    whose = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    return sum(used.ru_utime + used.ru_stime for used in map(resource.getrusage, whose))
