"""The statement that queues a job: bounded, once for each key, with its first event. Called by ledger.py alone."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from service.errors import Overloaded, RateLimited, Reason
from service.store import idempotency, jobs
from service.work import Accepted, Bounds, NewJob, StoredJob

if TYPE_CHECKING:
    from service.store.statements import Operation

PACE = 60.0  # seconds over which the pace is measured that a Retry-After is computed from

_NOW = "SELECT database_now()"

_WAITING = "SELECT count(*), count(CASE WHEN tenant_id = ? THEN 1 END) FROM jobs WHERE status = 'queued'"

_ENDED = "SELECT count(*) FROM jobs WHERE ended_at > database_now() - ?"

_SUBMIT = """
INSERT INTO jobs (job_id, tenant_id, user_id, roles, key_id, kind, input, priority, trace, status, created_at, wakes_at,
                  events)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, 'queued', ?, ?, 1)
"""


def submit(job: NewJob, bounds: Bounds) -> Operation[Accepted]:
    """Queue a job, or return the one that its key has made.

    Raises:
        Conflict: the key was used for another body.
        RateLimited: too many of the tenant's jobs wait.
        Overloaded: too many jobs wait. Two submissions at the same moment may both find the last place.
    """
    who = job.principal
    now = (yield _NOW, ())[0][0]
    if job.once is not None:
        earlier = yield from idempotency.claim((who.tenant, who.user), job.once, (job.job_id, ""), now)
        if earlier is not None:
            return Accepted((yield from _found(who.tenant, earlier[0])), replayed=True)
    yield from _find_room(who.tenant, bounds)
    about = (job.kind, job.input, job.priority, json.dumps(dict(job.trace)))
    owner = (who.tenant, who.user, " ".join(sorted(who.roles)), who.key_id)
    yield _SUBMIT, (job.job_id, *owner, *about, now, now)
    yield jobs.event(job.job_id, 1, "job_queued", {})
    return Accepted((yield from _found(who.tenant, job.job_id)), replayed=False)


def _find_room(tenant: str, bounds: Bounds) -> Operation[None]:
    all_waiting, own_waiting = (yield _WAITING, (tenant,))[0]
    if own_waiting < bounds.tenant_queue and all_waiting < bounds.queue:
        return
    ended = (yield _ENDED, (PACE,))[0][0]
    retry_after = PACE / max(ended, 1)  # until one place more is free, if it goes on like this
    if own_waiting >= bounds.tenant_queue:
        detail = "Too many jobs of your tenant wait"
        raise RateLimited(detail, reason=Reason.TENANT_QUEUE_FULL, retry_after=retry_after)
    raise Overloaded("Too many jobs wait", reason=Reason.QUEUE_FULL, retry_after=retry_after)


def _found(tenant: str, job_id: str) -> Operation[StoredJob]:
    found = yield from jobs.find(tenant, job_id)
    assert found is not None  # noqa: S101  (types: it was written with its key, and outlives it)
    return found
