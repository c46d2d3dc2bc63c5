"""The embedded engine: workers claim jobs from the state database, fairly, and need nothing but it.

One in each process: beside the routes, or alone as `forebay worker`. Made and started by the workforce.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING

from service.errors import ForebayError
from telemetry.catalogue import JOBS_QUEUE_DEPTH

if TYPE_CHECKING:
    from service.jobs.crew import Crew


class Embedded:
    """Implements `engine.Engine`: begins as many jobs as the crew has room for."""

    def __init__(self, crew: Crew) -> None:
        self.crew = crew
        self._nudged = asyncio.Event()
        self._claiming: asyncio.Task[None] | None = None
        crew.on_change = self.nudge

    def start(self) -> None:
        """Begin; `drain` and `stop` end it."""
        self.crew.start()
        self._claiming = asyncio.create_task(self._claim(), name="jobs: claim")

    def nudge(self) -> None:
        """Look for work now: somebody has just queued some, or there is room again."""
        self._nudged.set()

    def call_off(self, job_id: str) -> None:
        """Do nothing: whoever works on it looks often enough."""

    def state(self) -> str:
        """Return `ready`: it relies on nothing but the database."""
        return "ready"

    async def drain(self, seconds: float) -> None:
        """Claim nothing more; let each job come to its next checkpoint within `seconds`, then give it back."""
        await self.crew.drain(seconds)

    async def stop(self) -> None:
        """End at once and wait until it has ended; what could not be given back is taken over when its lease ends."""
        if self._claiming is not None:
            self._claiming.cancel()
            await asyncio.gather(self._claiming, return_exceptions=True)
        await self.crew.stop()

    async def _claim(self) -> None:
        while not self.crew.draining:
            with suppress(ForebayError):  # told where it happened; the next round tries again
                await self._look()
            with suppress(TimeoutError):
                async with asyncio.timeout(self.crew.pulse.poll):
                    await self._nudged.wait()
            self._nudged.clear()

    async def _look(self) -> None:
        """Claim while there is something to claim and a place for it."""
        crew = self.crew
        depths, lost = await crew.store.waiting()
        for kind in crew.kinds:
            crew.observer.set(JOBS_QUEUE_DEPTH, depths.get(kind, 0), kind)
        while kinds := crew.kinds_with_room():
            if not (lost or any(depths.get(kind) for kind in kinds)):
                return
            before = asyncio.get_running_loop().time()
            claimed = await crew.store.claim(crew.worker_id, kinds, crew.pulse.lease, lost=lost)
            if claimed is None:
                return
            crew.begin(claimed, before + crew.pulse.lease)
