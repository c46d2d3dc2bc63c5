"""The jobs that this process works on, whichever engine found them: their leases, their cancellations, their end.

Every job is held by a lease in the state database, which is renewed for as long as the database answers. A job whose
lease is lost stops at once: somebody else may begin it.
"""

from __future__ import annotations

import asyncio
import contextvars
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from service.errors import ForebayError
from service.jobs.run import Run
from telemetry import catalogue as rows

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from service.jobs.kind import Kind
    from service.jobs.means import Means
    from service.runtime.gate import Gate, Place
    from service.runtime.world import World
    from service.work import ClaimedJob, JobStore
    from telemetry.observe import Observer

CLEANUP = 2.0  # seconds for what was stopped to be written


@dataclass(frozen=True, slots=True)
class Pulse:
    """Seconds: how long a claim holds, how often it is renewed, how soon a cancellation and new work are seen."""

    lease: float = 10.0
    renew: float = 3.0
    watch: float = 0.5
    poll: float = 0.5


@dataclass(slots=True, eq=False)
class Held:
    """A job that is worked on here. `until`: the loop time after which nobody may rely on the lease."""

    run: Run
    task: asyncio.Task[str]
    until: float


class Crew:
    """Works on what it is given, on as many jobs at once as `gate` has places.

    Attributes:
        gate: the places.
        draining: whether it takes nothing more.
        on_change: called when there may be room for another job, or an end to the waiting for it.
    """

    def __init__(
        self,
        store: JobStore,
        kinds: Mapping[str, Kind],
        means: Means,
        gate: Gate,
        observer: Observer,
        world: World,
        pulse: Pulse | None = None,
    ) -> None:
        self.worker_id = world.new_id("worker")
        self.store, self.kinds, self.gate, self.observer, self.pulse = store, kinds, gate, observer, pulse or Pulse()
        self.draining = False
        self.on_change: Callable[[], None] = lambda: None
        self._means, self._world = means, world
        self._held: dict[tuple[str, int], Held] = {}  # by job id and fence
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Begin to look after what is held; `drain` and `stop` end it."""
        pulse = self.pulse
        self._tasks = [
            asyncio.create_task(every(pulse.watch, self._watch), name="jobs: watch"),
            asyncio.create_task(every(pulse.renew, self._renew), name="jobs: renew"),
        ]

    def __len__(self) -> int:
        return len(self._held)

    @property
    def held(self) -> tuple[Held, ...]:
        """What is worked on at this moment."""
        return tuple(self._held.values())

    def kinds_with_room(self) -> tuple[str, ...]:
        """Return the kinds of which another job may be begun now."""
        if self.draining or len(self._held) >= self.gate.statistics().limit:
            return ()
        busy = Counter(held.run.kind.name for held in self._held.values())
        return tuple(name for name, kind in self.kinds.items() if busy[name] < kind.concurrency)

    def begin(
        self, claimed: ClaimedJob, until: float, place: Place | None = None, caller: Mapping[str, str] | None = None
    ) -> Held:
        """Work on a job whose lease runs `until`; the task's result is what became of it.

        Args:
            claimed: the job.
            until: loop time.
            place: of the gate; released at the end. None: it is taken here.
            caller: W3C headers of who handed it out, beside those of who asked for it.
        """
        seen, kind = self.observer, self.kinds[claimed.kind]
        if claimed.waited is not None:
            seen.record(rows.JOB_WAIT_SECONDS, claimed.waited, kind.name)
        if claimed.recovered:
            seen.inc(rows.JOBS_RECOVERED_TOTAL, kind.name)
        run = Run(claimed, kind, self._means, self.store, seen, self._world.random, caller)
        # A context of its own: the job's trace is its own, whoever's request has woken us.
        task = asyncio.create_task(self._carry(run, place), name=f"job {claimed.job_id}", context=contextvars.Context())
        held = self._held[claimed.job_id, claimed.fence] = Held(run, task, until)
        return held

    async def drain(self, seconds: float) -> None:
        """Let each job come to its next checkpoint within `seconds`, then give it back."""
        self.draining = True
        self.on_change()
        for held in self._held.values():
            held.run.giving_up = True
        await self._until_idle(seconds)
        for held in self._held.values():
            held.run.stop("given_back")
        await self._until_idle(CLEANUP)

    async def stop(self) -> None:
        """End at once and wait until it has ended; what could not be given back is taken over when its lease ends."""
        tasks = [*self._tasks, *(held.task for held in self._held.values())]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _until_idle(self, seconds: float) -> None:
        tasks = [held.task for held in self._held.values()]
        if tasks:
            await asyncio.wait(tasks, timeout=seconds)

    async def _carry(self, run: Run, place: Place | None) -> str:
        """Hold a place while the job runs, then count it."""
        seen, claimed, kind = self.observer, run.claimed, run.kind.name
        place = place or self.gate.try_acquire(claimed.principal.tenant, asyncio.current_task())
        seen.add(rows.JOBS_RUNNING, 1, kind)
        outcome = "lost"
        try:
            outcome = await run.work()
        finally:
            seen.add(rows.JOBS_RUNNING, -1, kind)
            if place is not None:
                place.release()
            del self._held[claimed.job_id, claimed.fence]
            if run.duration is not None:
                self._count(run, outcome, run.duration)
            self.on_change()
        return outcome

    def _count(self, run: Run, outcome: str, seconds: float) -> None:
        """A job has ended here."""
        claimed = run.claimed
        self.observer.inc(rows.JOBS_TOTAL, claimed.kind, outcome)
        self.observer.record(rows.JOB_DURATION_SECONDS, seconds, claimed.kind, span=run.span)
        self.observer.log(
            rows.LOG_JOB,
            job_id=claimed.job_id,
            kind=claimed.kind,
            tenant=claimed.principal.tenant,
            outcome=outcome,
            attempts=claimed.fence,
            recoveries=claimed.recoveries,
            duration_ms=round(seconds * 1e3),
        )

    # --- keeping -----------------------------------------------------------------------------------------------------

    async def _watch(self) -> None:
        """Stop what is to be cancelled, and what is not ours any more."""
        watched = dict(self._held)
        if not watched:
            return
        now = asyncio.get_running_loop().time()
        for held in watched.values():
            if now > held.until:
                held.run.stop("lost")
        standing = await self.store.standing(self.worker_id)
        for (job_id, fence), held in watched.items():
            stands = standing.get(job_id)
            if stands is None or stands.fence != fence:
                held.run.stop("lost")
            elif stands.cancelled:
                held.run.stop("cancelled")

    async def _renew(self) -> None:
        held = self.held
        if not held:
            return
        before = asyncio.get_running_loop().time()
        await self.store.renew(self.worker_id, self.pulse.lease)
        for one in held:
            one.until = before + self.pulse.lease


async def every(seconds: float, work: Callable[[], Awaitable[None]]) -> None:
    """Do `work` again and again, so many seconds apart."""
    while True:
        await asyncio.sleep(seconds)
        with suppress(ForebayError):  # told where it happened; the next round tries again
            await work()
