"""What an engine is: it decides who works on which job and when. The two are embedded.py and temporal/engine.py.

Whatever the engine, the state database is the one truth of a job: its status, its checkpoints, its log, its result.
"""

from __future__ import annotations

from typing import Protocol


class Engine(Protocol):
    """One in each process, made and started by the workforce."""

    def start(self) -> None:
        """Begin; `drain` and `stop` end it."""
        ...

    def nudge(self) -> None:
        """Look for work now: somebody has just queued some."""
        ...

    def call_off(self, job_id: str) -> None:
        """A job was cancelled in the database: tell whoever has it, if telling is sooner than their looking."""
        ...

    def state(self) -> str:
        """Return how that is on which it relies beside the database: ready, starting or failed."""
        ...

    async def drain(self, seconds: float) -> None:
        """Begin nothing more; let each job come to its next checkpoint within `seconds`, then give it back."""
        ...

    async def stop(self) -> None:
        """End at once and wait until it has ended; what could not be given back is taken over when its lease ends."""
        ...
