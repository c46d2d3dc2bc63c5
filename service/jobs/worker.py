"""The worker: claims jobs, keeps their leases, hears of cancellations, gives back what it cannot finish.

One in each process: beside the routes, or alone as `forebay worker`. Started and stopped by the composition root.
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
    from service.runtime.gate import Gate
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
class _Held:
    """A job that this worker works on. `until`: the loop time after which nobody may rely on the lease."""

    run: Run
    task: asyncio.Task[None]
    until: float


class Worker:
    """Works on as many jobs at once as `gate` has places, and on no more of one kind than its row says."""

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
        self._store, self._kinds, self._means, self._gate = store, kinds, means, gate
        self._observer, self._world, self._pulse = observer, world, pulse or Pulse()
        self._held: dict[tuple[str, int], _Held] = {}  # by job id and fence
        self._draining = False
        self._nudged = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Begin; `drain` and `stop` end it."""
        pulse = self._pulse
        self._tasks = [
            asyncio.create_task(self._claiming(), name="jobs: claim"),
            asyncio.create_task(_every(pulse.watch, self._watch), name="jobs: watch"),
            asyncio.create_task(_every(pulse.renew, self._renew), name="jobs: renew"),
        ]

    def nudge(self) -> None:
        """Look for work now: somebody has just queued some."""
        self._nudged.set()

    def __len__(self) -> int:
        return len(self._held)

    async def drain(self, seconds: float) -> None:
        """Claim nothing more; let each job come to its next checkpoint within `seconds`, then give it back."""
        self._draining = True
        self.nudge()
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

    # --- claiming ----------------------------------------------------------------------------------------------------

    async def _claiming(self) -> None:
        while not self._draining:
            with suppress(ForebayError):  # told where it happened; the next round tries again
                await self._look()
            with suppress(TimeoutError):
                async with asyncio.timeout(self._pulse.poll):
                    await self._nudged.wait()
            self._nudged.clear()

    async def _look(self) -> None:
        """Claim while there is something to claim and a place for it."""
        depths, lost = await self._store.waiting()
        for kind in self._kinds:
            self._observer.set(rows.JOBS_QUEUE_DEPTH, depths.get(kind, 0), kind)
        while kinds := self._kinds_with_room():
            if not (lost or any(depths.get(kind) for kind in kinds)):
                return
            before = asyncio.get_running_loop().time()
            claimed = await self._store.claim(self.worker_id, kinds, self._pulse.lease, lost=lost)
            if claimed is None:
                return
            self._begin(claimed, before + self._pulse.lease)

    def _kinds_with_room(self) -> tuple[str, ...]:
        if self._draining or len(self._held) >= self._gate.statistics().limit:
            return ()
        busy = Counter(held.run.kind.name for held in self._held.values())
        return tuple(name for name, kind in self._kinds.items() if busy[name] < kind.concurrency)

    def _begin(self, claimed: ClaimedJob, until: float) -> None:
        seen, kind = self._observer, self._kinds[claimed.kind]
        if claimed.waited is not None:
            seen.record(rows.JOB_WAIT_SECONDS, claimed.waited, kind.name)
        if claimed.recovered:
            seen.inc(rows.JOBS_RECOVERED_TOTAL, kind.name)
        run = Run(claimed, kind, self._means, self._store, seen, self._world.random)
        # A context of its own: the job's trace is its own, whoever's request has woken us.
        task = asyncio.create_task(self._carry(run), name=f"job {claimed.job_id}", context=contextvars.Context())
        self._held[claimed.job_id, claimed.fence] = _Held(run, task, until)

    async def _carry(self, run: Run) -> None:
        """Hold a place while the job runs, then count it."""
        seen, claimed, kind = self._observer, run.claimed, run.kind.name
        place = self._gate.try_acquire(claimed.principal.tenant, asyncio.current_task())
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
            self.nudge()

    def _count(self, run: Run, outcome: str, seconds: float) -> None:
        """A job has ended here."""
        claimed = run.claimed
        self._observer.inc(rows.JOBS_TOTAL, claimed.kind, outcome)
        self._observer.record(rows.JOB_DURATION_SECONDS, seconds, claimed.kind)
        self._observer.log(
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
        standing = await self._store.standing(self.worker_id)
        for (job_id, fence), held in watched.items():
            stands = standing.get(job_id)
            if stands is None or stands.fence != fence:
                held.run.stop("lost")
            elif stands.cancelled:
                held.run.stop("cancelled")

    async def _renew(self) -> None:
        held = tuple(self._held.values())
        if not held:
            return
        before = asyncio.get_running_loop().time()
        await self._store.renew(self.worker_id, self._pulse.lease)
        for one in held:
            one.until = before + self._pulse.lease


async def _every(seconds: float, work: Callable[[], Awaitable[None]]) -> None:
    while True:
        await asyncio.sleep(seconds)
        with suppress(ForebayError):  # told where it happened; the next round tries again
            await work()
