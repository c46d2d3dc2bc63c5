"""The engine on Temporal: connected in the background, and again and again, until the process ends.

A process starts without Temporal and goes on without it: jobs are accepted up to the queue's bounds and handed over
once it is there. /readyz tells. Made by the workforce, if the settings say so.
"""

from __future__ import annotations

import asyncio
import importlib
from typing import TYPE_CHECKING

from service.jobs.temporal.target import Target, Unusable
from service.runtime.outage import Outage
from telemetry.catalogue import LOG_BUG, LOG_TEMPORAL

if TYPE_CHECKING:
    from service.jobs.crew import Crew
    from service.jobs.temporal.session import Session

PAUSES = (1.0, 2.0, 5.0, 10.0)  # seconds between two tries; the last one from then on
CLIENT = "service.jobs.temporal.session"  # takes 0.1 s to import, not on the event loop


class Temporal:
    """Implements `engine.Engine`."""

    def __init__(self, crew: Crew, target: Target) -> None:
        self.crew, self._target = crew, target
        self._outage = Outage("jobs", crew.observer)
        self._session: Session | None = None
        self._running: asyncio.Task[None] | None = None
        self._calls: set[asyncio.Task[None]] = set()
        crew.on_change = self.nudge

    def start(self) -> None:
        """Begin; `drain` and `stop` end it."""
        self.crew.start()
        self._running = asyncio.create_task(self._run(), name="jobs: temporal")

    def nudge(self) -> None:
        """Hand over now what somebody has just queued, or what there is room for."""
        if self._session is not None:
            self._session.nudge()

    def call_off(self, job_id: str) -> None:
        """Cancel the workflow too: it may wait for a worker, or its worker hear of it sooner."""
        if self._session is not None:
            task = asyncio.create_task(self._session.cancel(job_id))
            self._calls.add(task)
            task.add_done_callback(self._calls.discard)

    def state(self) -> str:
        """Return `starting` until it was connected once, `failed` while Temporal does not answer, else `ready`."""
        if self._outage:
            return "failed"
        return "starting" if self._session is None else "ready"

    async def drain(self, seconds: float) -> None:
        """Ask for nothing more; let each job come to its next checkpoint within `seconds`, then give it back."""
        self.crew.draining = True
        if self._session is not None:
            self._session.ask_no_more()
        await self.crew.drain(seconds)
        if self._session is not None:
            await self._session.ended()

    async def stop(self) -> None:
        """End at once and wait until it has ended; what could not be given back is taken over when its lease ends."""
        await self.crew.stop()
        tasks = [*self._calls, *([self._running] if self._running is not None else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _run(self) -> None:
        """Work for Temporal; when that fails, say so, wait, and begin again."""
        failures = 0
        while not self.crew.draining:
            try:
                await self._work()
            except Unusable as failure:
                self._outage.begin(self, failure)
                self.crew.observer.log(LOG_TEMPORAL, address=self._target.address, failure=str(failure))
            except Exception as error:  # noqa: BLE001  (whatever it is, the jobs must not wait for it for ever)
                self._outage.begin(self, error)
                self.crew.observer.log(LOG_BUG, what="jobs: temporal", exc_info=error)
            await asyncio.sleep(PAUSES[min(failures, len(PAUSES) - 1)])
            failures += 1

    async def _work(self) -> None:
        """Connect, and serve until the workers are told to end or one of them fails."""
        client = await asyncio.to_thread(importlib.import_module, CLIENT)
        self._session = await client.connect(self._target, self.crew, self._outage)
        self._outage.end(self)
        try:
            await self._session.run()
        finally:
            self._session = None
