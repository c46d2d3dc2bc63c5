"""Asks for the evaluation of a share of the finished turns, in a task of its own. Told of each by conduct.py.

A turn waits for none of it: `sample` puts a row into a bounded queue, and what has no room, there or in the database's
own queue, is counted and forgotten. A sample is worth no user's place.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from service.errors import ForebayError, Overloaded, RateLimited
from service.jobs.kinds.evaluation import NAME, EvaluationInput
from service.work import LOWEST, NewJob
from telemetry.catalogue import EVALUATIONS_SAMPLED_TOTAL

if TYPE_CHECKING:
    from service.jobs.desk import Desk
    from service.ports import Principal
    from service.runtime.world import World
    from telemetry.observe import Observer

ROOM = 256  # turns that wait to be written: a second of them, at the pace of one process
SUBMIT = 5.0  # seconds for one of them
FLUSH = 1.0  # seconds for what waits at the end of the process
_BITS: Final = 64


class Sampler:
    """One per process.

    Args:
        desk: where evaluations are asked for; its bounds leave room for what users ask for.
        ratio: the share of the turns, from 0 to 1, chosen by the trace's id, by the rule by which traces are sampled:
            a turn that is evaluated is one whose trace is kept, as long as no more are evaluated than traced.
    """

    def __init__(self, desk: Desk, ratio: float, observer: Observer, world: World) -> None:
        self._desk, self._observer, self._world = desk, observer, world
        self._below = round(ratio * 2**_BITS)
        self._waiting: asyncio.Queue[NewJob] = asyncio.Queue(ROOM)
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin; `stop` ends it."""
        self._task = asyncio.create_task(self._work(), name="jobs: sampling")

    def sample(self, principal: Principal, message_id: str) -> None:
        """Have this answer evaluated, or not. Called within the span of its turn; takes microseconds, never fails."""
        seen = self._observer
        if self._below == 0 or int(seen.current().trace_id, 16) % 2**_BITS >= self._below:
            return
        job = NewJob(
            job_id=self._world.new_id("job"),
            principal=principal,
            kind=NAME,
            input=EvaluationInput(message_id=message_id).model_dump_json(),
            priority=LOWEST,
            trace=seen.trace_headers(),
        )
        try:
            self._waiting.put_nowait(job)
        except asyncio.QueueFull:
            seen.inc(EVALUATIONS_SAMPLED_TOTAL, "refused")

    async def stop(self) -> None:
        """Write what waits, if that takes no longer than a second; the rest is lost, and counted."""
        if self._task is None:
            return
        with suppress(TimeoutError):
            async with asyncio.timeout(FLUSH):
                await self._waiting.join()
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        self._observer.inc(EVALUATIONS_SAMPLED_TOTAL, "failed", by=self._waiting.qsize())

    async def _work(self) -> None:
        while True:
            job = await self._waiting.get()
            outcome = "failed"
            try:
                outcome = await self._submit(job)
            finally:
                self._observer.inc(EVALUATIONS_SAMPLED_TOTAL, outcome)
                self._waiting.task_done()

    async def _submit(self, job: NewJob) -> str:
        try:
            async with asyncio.timeout(SUBMIT):
                await self._desk.submit(job)
        except (Overloaded, RateLimited):
            return "refused"
        except (ForebayError, TimeoutError):
            return "failed"
        return "queued"
