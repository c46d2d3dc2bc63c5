"""The jobs' side of the state database: implements `work.JobStore` over any driver. `StateStore.jobs` is one."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from service.store import finished, job_offers, job_queue, jobs
from service.work import LeaseLost

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from service.store.access import Access
    from service.work import (
        Accepted,
        Backlog,
        Bounds,
        ClaimedJob,
        Ended,
        FinishedTurn,
        JobEvent,
        JobStatus,
        NewJob,
        Offered,
        Standing,
        StoredJob,
    )


class Ledger:
    """Every method raises PersistFailed when the database cannot answer."""

    def __init__(self, access: Access) -> None:
        self._access = access

    async def submit(
        self, job: NewJob, bounds: Bounds, on_commit: Callable[[Accepted], object] | None = None
    ) -> Accepted:
        """Queue a job, with its first event; raise Conflict, RateLimited or Overloaded."""
        return await self._access.write(job_queue.submit(job, bounds), on_commit)

    async def find(self, tenant: str, job_id: str) -> StoredJob | None:
        """Return a job of this tenant, None for none."""
        return await self._access.read(jobs.find(tenant, job_id))

    async def page(self, tenant: str, before: int | None, limit: int, kind: str | None = None) -> Sequence[StoredJob]:
        """Return the tenant's newest jobs, from the one before `before` on; of one kind, if that is given."""
        return await self._access.read(jobs.page(tenant, before, limit, kind))

    async def log(self, job_id: str, after: int, limit: int) -> Sequence[JobEvent]:
        """Return the events of a job that follow number `after`, in order."""
        return await self._access.read(jobs.log(job_id, after, limit))

    async def waiting(self) -> tuple[Mapping[str, int], bool]:
        """Return how many jobs wait, by kind, and whether a worker was lost with one."""
        return await self._access.read(jobs.waiting())

    async def cancel(self, tenant: str, job_id: str) -> tuple[JobStatus, str] | None:
        """Cancel what waits, ask for what runs to be stopped; return the status before, and the kind."""
        return await self._access.write(jobs.cancel(tenant, job_id))

    async def claim(
        self, worker_id: str, kinds: Sequence[str], lease: float, *, lost: bool = True
    ) -> ClaimedJob | None:
        """Take the next job of one of `kinds`, for `lease` seconds; not `lost`: only one that waits."""
        return await self._access.write(jobs.claim(worker_id, kinds, lease, lost=lost))

    async def backlog(self) -> Mapping[str, Backlog]:
        """Return what has not ended, by kind."""
        return await self._access.read(job_offers.backlog())

    async def offer(self, kind: str, most: int, again: float) -> Sequence[Offered]:
        """Return jobs that nobody was offered for `again` seconds, fairly among tenants, and lost ones."""
        return await self._access.write(job_offers.offer(kind, most, again))

    async def take(self, worker_id: str, job_id: str, lease: float) -> ClaimedJob | JobStatus | None:
        """Take this job for `lease` seconds; else return how it stands, None for no such job."""
        return await self._access.write(job_offers.take(worker_id, job_id, lease))

    async def renew(self, worker_id: str, lease: float) -> None:
        """Extend the leases of all that this worker works on."""
        await self._access.write(jobs.renew(worker_id, lease))

    async def standing(self, worker_id: str) -> Mapping[str, Standing]:
        """Return what this worker works on, by job id."""
        return await self._access.read(jobs.standing(worker_id))

    async def begin_step(self, job_id: str, fence: int, step: str) -> int:
        """Note that a step begins; return the number of this attempt; raise LeaseLost."""
        attempt = await self._access.write(jobs.begin_step(job_id, fence, step))
        if attempt is None:
            raise LeaseLost
        return attempt

    async def finish_step(self, job_id: str, fence: int, step: str, output: Any, progress: float) -> None:
        """Write the checkpoint; raise LeaseLost."""
        _held(await self._access.write(jobs.finish_step(job_id, fence, step, json.dumps(output), progress)))

    async def note_progress(self, job_id: str, fence: int, progress: float) -> None:
        """Write how far it is, from 0 to 1; raise LeaseLost."""
        _held(await self._access.write(jobs.note_progress(job_id, fence, progress)))

    async def end(self, job_id: str, fence: int, status: Ended, *, result: Any = None, code: str = "") -> float:
        """Write how it ended; return the seconds since its first claim; raise LeaseLost."""
        text = None if result is None else json.dumps(result)
        duration = await self._access.write(jobs.end(job_id, fence, status, text, code))
        if duration is None:
            raise LeaseLost
        return duration

    async def give_back(self, job_id: str, fence: int) -> None:
        """Queue it again for somebody else; raise LeaseLost."""
        _held(await self._access.write(jobs.give_back(job_id, fence)))

    async def forget(self, kept: float) -> int:
        """Forget jobs that ended more than `kept` seconds ago; return how many."""
        return await self._access.write(jobs.forget(kept))

    async def finished_turn(self, tenant: str, user: str, message_id: str) -> FinishedTurn | None:
        """Return a completed answer of this user with what it was made of; None for none."""
        return await self._access.read(finished.finished_turn(tenant, user, message_id))


def _held(held: bool) -> None:  # noqa: FBT001 -- it is the operation's result
    if not held:
        raise LeaseLost
