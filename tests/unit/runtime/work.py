"""Some work that goes through phases, and a place to look at what became of it."""

from __future__ import annotations

from dataclasses import dataclass, field

from service.runtime.phase import Total
from telemetry.testing import recording_observer

BUDGETS = {"policy.check": 1.0, "rerank": 1.0, "model.stream": 10.0, "admission": 2.0, "stream.emit": 5.0}


@dataclass
class Work:
    """As the port of phase.py wants it; `total` is at 100 s unless a test says otherwise."""

    total: Total = field(default_factory=lambda: Total(100.0))
    cause: str | None = None
    phases: list[str] = field(default_factory=list)
    where: str = ""
    budgets: dict[str, float] = field(default_factory=lambda: dict(BUDGETS))
    changes: list[tuple] = field(default_factory=list)

    def __post_init__(self):
        self.observer, self.seen = recording_observer()

    def phase_changed(self, *change):
        self.changes.append(change)
