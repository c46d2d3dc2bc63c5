"""Statements on jobs: one row each, moved from state to state by compare-and-set. Called by ledger.py alone.

    queued → running → completed | failed | cancelled, and back to queued when its worker gives it back

Time is the database's (`database_now()`), so workers need no common clock. A claim raises the job's fence, which every
write of a worker names: who was taken for lost writes nothing more. Every event gets its number from the job's row,
whose lock orders the writers.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from service.ports import Principal
from service.store.statements import Operation
from service.work import ClaimedJob, Ended, EventType, JobEvent, JobStatus, Standing, StoredJob

AGING = 60.0  # seconds of waiting that count as much as one step of priority: nobody is passed over for ever
CANDIDATES = 4  # looked at for one claim, when others claim at the same moment

_COLUMNS = (
    "seq, job_id, tenant_id, user_id, kind, status, priority, step, progress, result, error_code, created_at, "
    "started_at, ended_at, events"
)

_EVENT = "INSERT INTO job_events (job_id, seq, type, at, data) VALUES (?, ?, ?, database_now(), ?)"

# --- asking -------------------------------------------------------------------------------------------------------

_FIND = f"SELECT {_COLUMNS} FROM jobs WHERE tenant_id = ? AND job_id = ?"  # noqa: S608 -- our columns

_AHEAD = """
SELECT count(*) FROM jobs WHERE status = 'queued' AND (priority > ? OR (priority = ? AND seq < ?))
"""

_PAGE = f"SELECT {_COLUMNS} FROM jobs WHERE tenant_id = ? AND seq < ?{{}} ORDER BY seq DESC LIMIT ?"  # noqa: S608

_LOG = "SELECT seq, type, at, data FROM job_events WHERE job_id = ? AND seq > ? ORDER BY seq LIMIT ?"

_STANDING = """
SELECT job_id, fence, cancel_requested_at IS NOT NULL FROM jobs WHERE worker_id = ? AND status = 'running'
"""

_DEPTHS = "SELECT kind, count(*) FROM jobs WHERE status = 'queued' GROUP BY kind"

_ANY_LOST = "SELECT 1 FROM jobs WHERE status = 'running' AND lease_until < database_now() LIMIT 1"

# --- claiming -----------------------------------------------------------------------------------------------------

_LOST = """
SELECT job_id FROM jobs WHERE status = 'running' AND lease_until < database_now() AND kind IN ({marks})
ORDER BY lease_until LIMIT ?
"""

# Whose tenant has the fewest at work; among those, whose tenant was served longest ago; of that tenant the most urgent.
_NEXT = """
WITH clock AS MATERIALIZED (SELECT database_now() AS now)
SELECT jobs.job_id FROM clock CROSS JOIN jobs
LEFT JOIN (SELECT tenant_id, count(*) AS jobs_at_work FROM jobs WHERE status = 'running' GROUP BY tenant_id) AS busy
    ON busy.tenant_id = jobs.tenant_id
LEFT JOIN job_turns ON job_turns.tenant_id = jobs.tenant_id
WHERE jobs.status = 'queued' AND jobs.wakes_at <= now AND jobs.kind IN ({marks})
ORDER BY coalesce(jobs_at_work, 0), coalesce(served, 0),
         jobs.priority + (now - jobs.created_at) / ? DESC, jobs.seq
LIMIT ?
"""

TAKE = """
UPDATE jobs SET status = 'running', worker_id = ?, fence = fence + 1, lease_until = database_now() + ?,
                recoveries = recoveries + CASE WHEN status = 'running' THEN 1 ELSE 0 END,
                started_at = coalesce(started_at, database_now()), events = events + 1
WHERE job_id = ? AND (status = 'queued' OR (status = 'running' AND lease_until < database_now()))
RETURNING job_id, tenant_id, user_id, roles, key_id, kind, input, trace, fence, started_at - created_at,
          database_now() - started_at, recoveries, cancel_requested_at, progress, events
"""

_SERVED = """
INSERT INTO job_turns (tenant_id, served) SELECT CAST(? AS TEXT), coalesce(max(served), 0) + 1 FROM job_turns WHERE true
ON CONFLICT (tenant_id) DO UPDATE SET served = excluded.served
"""

_FINISHED = "SELECT step, output FROM job_steps WHERE job_id = ? AND finished_at IS NOT NULL"

_RENEW = "UPDATE jobs SET lease_until = database_now() + ? WHERE worker_id = ? AND status = 'running'"

# --- working ------------------------------------------------------------------------------------------------------

_FENCED = "WHERE job_id = ? AND fence = ? AND status = 'running' RETURNING events"

_HELD = f"UPDATE jobs SET progress = ? {_FENCED}"  # noqa: S608
_AT_STEP = f"UPDATE jobs SET step = ?, events = events + 1 {_FENCED}"  # noqa: S608
_AT_PROGRESS = f"UPDATE jobs SET progress = ?, events = events + 1 {_FENCED}"  # noqa: S608

_BEGIN_STEP = """
INSERT INTO job_steps (job_id, step, attempt) VALUES (?, ?, 1)
ON CONFLICT (job_id, step) DO UPDATE SET attempt = job_steps.attempt + 1 WHERE job_steps.finished_at IS NULL
RETURNING attempt
"""

_COUNT = "UPDATE jobs SET events = events + 1 WHERE job_id = ? RETURNING events"

_FINISH_STEP = """
UPDATE job_steps SET output = ?, finished_at = database_now() WHERE job_id = ? AND step = ? AND finished_at IS NULL
RETURNING attempt
"""

_END = f"""
UPDATE jobs SET status = ?, result = ?, error_code = ?, progress = {{progress}}, worker_id = '', lease_until = NULL,
                ended_at = database_now(), events = events + 1 {_FENCED}, ended_at - started_at
"""  # noqa: S608

_GIVE_BACK = f"""
UPDATE jobs SET status = 'queued', worker_id = '', lease_until = NULL, wakes_at = database_now(), events = events + 1
{_FENCED}
"""  # noqa: S608

# --- cancelling, forgetting ---------------------------------------------------------------------------------------

_CANCEL_QUEUED = """
UPDATE jobs SET status = 'cancelled', error_code = 'cancelled', ended_at = database_now(), events = events + 1
WHERE tenant_id = ? AND job_id = ? AND status = 'queued' RETURNING events, kind
"""

_CANCEL_RUNNING = """
UPDATE jobs SET cancel_requested_at = coalesce(cancel_requested_at, database_now())
WHERE tenant_id = ? AND job_id = ? AND status = 'running' RETURNING kind
"""

_STATUS = "SELECT status, kind FROM jobs WHERE tenant_id = ? AND job_id = ?"

_OLD = "SELECT job_id FROM jobs WHERE ended_at < database_now() - ? ORDER BY ended_at LIMIT 500"


def find(tenant: str, job_id: str) -> Operation[StoredJob | None]:
    """Return a job of `tenant`, with its position while it waits: how many are more urgent or came before, plus one."""
    rows = yield _FIND, (tenant, job_id)
    if not rows:
        return None
    job = StoredJob(*rows[0])
    if job.status != "queued":
        return job
    ahead = yield _AHEAD, (job.priority, job.priority, job.seq)
    return replace(job, position=ahead[0][0] + 1)


def page(tenant: str, before: int | None, limit: int, kind: str | None) -> Operation[tuple[StoredJob, ...]]:
    """Return jobs of `tenant`, the newest first, those before `before` alone, and those of `kind` alone."""
    first = 2**62 if before is None else before
    wanted = () if kind is None else (kind,)
    rows = yield _PAGE.format(" AND kind = ?" * len(wanted)), (tenant, first, *wanted, limit)
    return tuple(StoredJob(*row) for row in rows)


def log(job_id: str, after: int, limit: int) -> Operation[tuple[JobEvent, ...]]:
    """Return the events after number `after`."""
    rows = yield _LOG, (job_id, after, limit)
    return tuple(JobEvent(number, kind, at, json.loads(data)) for number, kind, at, data in rows)


def waiting() -> Operation[tuple[dict[str, int], bool]]:
    """Return how many jobs wait, by kind, and whether a worker was lost with one."""
    rows = yield _DEPTHS, ()
    lost = yield _ANY_LOST, ()
    return {row[0]: row[1] for row in rows}, bool(lost)


def standing(worker_id: str) -> Operation[dict[str, Standing]]:
    """Return what a worker works on."""
    rows = yield _STANDING, (worker_id,)
    return {job_id: Standing(fence, bool(cancelled)) for job_id, fence, cancelled in rows}


def claim(worker_id: str, kinds: Sequence[str], lease: float, *, lost: bool) -> Operation[ClaimedJob | None]:
    """Take a job whose worker was lost, if there may be some, or the next in line; None when there is none."""
    marks = ", ".join("?" * len(kinds))
    orphans = (yield _LOST.format(marks=marks), (*kinds, CANDIDATES)) if lost else ()
    waiting = yield _NEXT.format(marks=marks), (*kinds, AGING, CANDIDATES)
    for (job_id,) in (*orphans, *waiting):
        taken = yield TAKE, (worker_id, lease, job_id)
        if taken:
            recovered = job_id in {row[0] for row in orphans}
            return (yield from claimed(taken[0], recovered=recovered))
    return None


def claimed(row: Sequence[Any], *, recovered: bool) -> Operation[ClaimedJob]:
    """Note the beginning of a job that `TAKE` has returned, and read what its work needs."""
    job_id, tenant, user, roles, key_id, kind, given, trace, fence, waited, age, recoveries, cancelled, *rest = row
    progress, number = rest
    yield _SERVED, (tenant,)
    yield event(job_id, number, "job_started", {})
    finished = yield _FINISHED, (job_id,)
    return ClaimedJob(
        job_id=job_id,
        principal=Principal(tenant, user, frozenset(roles.split()), key_id),
        kind=kind,
        input=given,
        trace=json.loads(trace),
        fence=fence,
        waited=waited if fence == 1 else None,
        age=age,
        recoveries=recoveries,
        recovered=recovered,
        cancelled=cancelled is not None,
        progress=progress,
        finished={step: json.loads(output) for step, output in finished},
    )


def renew(worker_id: str, lease: float) -> Operation[None]:
    """Extend the leases of a worker."""
    yield _RENEW, (lease, worker_id)


def begin_step(job_id: str, fence: int, step: str) -> Operation[int | None]:
    """Note that a step begins; return the number of the attempt, None if the fence is old."""
    held = yield _AT_STEP, (step, job_id, fence)
    if not held:
        return None
    rows = yield _BEGIN_STEP, (job_id, step)
    attempt: int = rows[0][0]
    yield event(job_id, held[0][0], "step_started", {"step": step, "attempt": attempt})
    return attempt


def finish_step(job_id: str, fence: int, step: str, output: str, progress: float) -> Operation[bool]:
    """Write a checkpoint; tell whether the fence held. Written again, it changes nothing."""
    held = yield _HELD, (progress, job_id, fence)
    finished = (yield _FINISH_STEP, (output, job_id, step)) if held else ()
    if finished:
        number = (yield _COUNT, (job_id,))[0][0]
        data = {"step": step, "attempt": finished[0][0], "progress": progress}
        yield event(job_id, number, "step_completed", data)
    return bool(held)


def note_progress(job_id: str, fence: int, progress: float) -> Operation[bool]:
    """Write how far it is; tell whether the fence held."""
    held = yield _AT_PROGRESS, (progress, job_id, fence)
    if held:
        yield event(job_id, held[0][0], "progress", {"progress": progress})
    return bool(held)


def end(job_id: str, fence: int, status: Ended, result: str | None, code: str) -> Operation[float | None]:
    """Write how it ended; return its duration, None if the fence is old."""
    statement = _END.format(progress="1" if status == "completed" else "progress")
    held = yield statement, (status, result, code, job_id, fence)
    if not held:
        return None
    number, duration = held[0]
    last: Mapping[Ended, EventType] = {
        "completed": "job_completed",
        "failed": "job_failed",
        "cancelled": "job_cancelled",
    }
    yield event(job_id, number, last[status], {"error_code": code} if code else {})
    return float(duration)


def give_back(job_id: str, fence: int) -> Operation[bool]:
    """Queue it again; tell whether the fence held."""
    held = yield _GIVE_BACK, (job_id, fence)
    if held:
        yield event(job_id, held[0][0], "job_queued", {})
    return bool(held)


def cancel(tenant: str, job_id: str) -> Operation[tuple[JobStatus, str] | None]:
    """Cancel what waits; ask for what runs to be stopped; return the status before and the kind, None for no job."""
    ended = yield _CANCEL_QUEUED, (tenant, job_id)
    if ended:
        number, kind = ended[0]
        yield event(job_id, number, "job_cancelled", {"error_code": "cancelled"})
        return "queued", kind
    asked = yield _CANCEL_RUNNING, (tenant, job_id)
    if asked:
        return "running", asked[0][0]
    rows = yield _STATUS, (tenant, job_id)
    return (rows[0][0], rows[0][1]) if rows else None


def forget(kept: float) -> Operation[int]:
    """Forget jobs that ended long ago, with all that hangs on them."""
    rows = yield _OLD, (kept,)
    ids = [row[0] for row in rows]
    if ids:
        marks = ", ".join("?" * len(ids))
        for table in ("job_events", "job_steps", "jobs"):
            yield f"DELETE FROM {table} WHERE job_id IN ({marks})", ids  # noqa: S608 -- our tables
    return len(ids)


def event(job_id: str, number: int, kind: EventType, data: Mapping[str, Any]) -> tuple[str, Sequence[Any]]:
    """Return the statement that writes an event."""
    return _EVENT, (job_id, number, kind, json.dumps(data))
