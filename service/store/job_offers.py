"""Statements for an engine that hands jobs out elsewhere: which are next, and the taking of one. For ledger.py alone.

An offer is no claim: whoever takes the job first has it, by the same lease and fence as on the embedded engine. So the
same job may be offered twice, and a job that was offered to somebody who has gone is offered again.
"""

from __future__ import annotations

import json
from collections.abc import Sequence

from service.store.jobs import AGING, TAKE, claimed
from service.store.statements import Operation
from service.work import Backlog, ClaimedJob, JobStatus, Offered

LOST = 30.0  # seconds without a lease: by then the engine itself should have found another worker

_QUEUED = """
WITH clock AS MATERIALIZED (SELECT database_now() AS now)
SELECT kind, count(*), count(CASE WHEN wakes_at > now THEN 1 END) FROM clock CROSS JOIN jobs
WHERE status = 'queued' GROUP BY kind
"""

_RUNNING = """
WITH clock AS MATERIALIZED (SELECT database_now() AS now)
SELECT kind, count(*), count(CASE WHEN lease_until < now - ? AND wakes_at <= now THEN 1 END) FROM clock CROSS JOIN jobs
WHERE status = 'running' GROUP BY kind
"""

# As for a claim: the tenant with the fewest jobs out first, then the one that was served longest ago; of a tenant the
# most urgent first. Its second job counts one more that is out, its third two: so a batch goes round the tenants.
_NEXT = """
WITH clock AS MATERIALIZED (SELECT database_now() AS now),
waiting AS (
    SELECT job_id, tenant_id, seq, row_number() OVER (
        PARTITION BY tenant_id ORDER BY priority + (now - created_at) / ? DESC, seq
    ) AS place
    FROM clock CROSS JOIN jobs WHERE status = 'queued' AND wakes_at <= now AND kind = ?
),
busy AS (
    SELECT tenant_id, count(*) AS jobs_out FROM (
        SELECT tenant_id FROM jobs WHERE status = 'running'
        UNION ALL
        SELECT tenant_id FROM clock CROSS JOIN jobs WHERE status = 'queued' AND wakes_at > now
    ) AS held GROUP BY tenant_id
)
SELECT waiting.job_id FROM waiting
LEFT JOIN busy ON busy.tenant_id = waiting.tenant_id
LEFT JOIN job_turns ON job_turns.tenant_id = waiting.tenant_id
ORDER BY coalesce(jobs_out, 0) + place, coalesce(served, 0), seq
LIMIT ?
"""

_STRAYS = """
SELECT job_id FROM jobs
WHERE status = 'running' AND kind = ? AND lease_until < database_now() - ? AND wakes_at <= database_now() LIMIT ?
"""

# Another process may have offered some of them since they were read.
_OFFER = """
UPDATE jobs SET wakes_at = database_now() + ?
WHERE job_id IN ({marks}) AND wakes_at <= database_now() AND ended_at IS NULL
RETURNING job_id, tenant_id, kind, trace
"""

_STATUS = "SELECT status FROM jobs WHERE job_id = ?"


def backlog() -> Operation[dict[str, Backlog]]:
    """Return what has not ended, by kind."""
    queued = {kind: numbers for kind, *numbers in (yield _QUEUED, ())}
    running = {kind: numbers for kind, *numbers in (yield _RUNNING, (LOST,))}
    kinds = sorted(queued.keys() | running.keys())
    return {kind: Backlog(*queued.get(kind, (0, 0)), *running.get(kind, (0, 0))) for kind in kinds}


def offer(kind: str, most: int, again: float) -> Operation[tuple[Offered, ...]]:
    """Return the jobs that are next, and say that they were offered."""
    strays = yield _STRAYS, (kind, LOST, most)
    waiting = yield _NEXT, (AGING, kind, most)
    ids = [row[0] for row in (*strays, *waiting)][:most]
    if not ids:
        return ()
    rows = yield _OFFER.format(marks=", ".join("?" * len(ids))), (again, *ids)
    offered = {job_id: Offered(job_id, tenant, of, json.loads(trace)) for job_id, tenant, of, trace in rows}
    return tuple(offered[one] for one in ids if one in offered)


def take(worker_id: str, job_id: str, lease: float) -> Operation[ClaimedJob | JobStatus | None]:
    """Take a job that waits or whose worker was lost; else return how it stands, None for no such job."""
    before: Sequence[Sequence[JobStatus]] = yield _STATUS, (job_id,)
    if not before:
        return None
    taken = yield TAKE, (worker_id, lease, job_id)
    if taken:
        return (yield from claimed(taken[0], recovered=before[0][0] == "running"))
    return before[0][0]
