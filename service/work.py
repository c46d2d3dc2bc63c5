"""Long work, as plain values and protocols: what a job is, and what its engine needs of the state database.

As in ports.py, nothing in here imports a library, and real parts and fakes pass the same contract tests. Times are Unix
seconds by the database's clock, durations seconds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from service.ports import Once, Principal

JobStatus = Literal["queued", "running", "completed", "failed", "cancelled"]
Ended = Literal["completed", "failed", "cancelled"]
ENDED: tuple[Ended, ...] = ("completed", "failed", "cancelled")
EventType = Literal[
    "job_queued",
    "job_started",
    "step_started",
    "step_completed",
    "progress",
    "job_completed",
    "job_failed",
    "job_cancelled",
]
LAST_EVENTS = ("job_completed", "job_failed", "job_cancelled")

LOWEST, USUAL, HIGHEST = 0, 5, 9  # priorities


class LeaseLost(Exception):
    """Somebody else works on this job now, or it has ended: whoever hears this stops at once and writes nothing."""


@dataclass(frozen=True, slots=True)
class NewJob:
    """A job that is asked for. `input` is JSON, valid for its kind; `trace` the W3C headers of who asks."""

    job_id: str
    principal: Principal
    kind: str
    input: str
    priority: int = USUAL
    trace: Mapping[str, str] = field(default_factory=dict)
    once: Once | None = None


@dataclass(frozen=True, slots=True)
class Bounds:
    """How many jobs may wait: all together, and of one tenant."""

    queue: int
    tenant_queue: int


@dataclass(frozen=True, slots=True)
class StoredJob:
    """A job as it stands. `position` counts from 1 while it is queued, and is 0 afterwards; `result` is JSON."""

    seq: int
    job_id: str
    tenant: str
    user: str
    kind: str
    status: JobStatus
    priority: int
    step: str
    progress: float
    result: str | None
    error_code: str
    created_at: float
    started_at: float | None
    ended_at: float | None
    events: int
    position: int = 0


@dataclass(frozen=True, slots=True)
class Accepted:
    """What became of a submission: the job, and whether its Idempotency-Key had made it earlier."""

    job: StoredJob
    replayed: bool


@dataclass(frozen=True, slots=True)
class JobEvent:
    """One line of a job's log, numbered from 1 without a gap."""

    number: int
    type: EventType
    at: float
    data: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class ClaimedJob:
    """A job that is ours to work on, for as long as the lease is renewed.

    Attributes:
        fence: every write names it: after another claim it is worth nothing.
        finished: the outputs of the steps that need not run again.
        waited: seconds from the submission, on the first claim alone.
        age: seconds since the first claim.
        recoveries: how often it was taken over from a worker that was not heard of any more.
        recovered: whether this claim was such a take-over.
        cancelled: whether somebody asked for it to be stopped.
    """

    job_id: str
    principal: Principal
    kind: str
    input: str
    trace: Mapping[str, str]
    fence: int
    waited: float | None
    age: float
    recoveries: int
    recovered: bool
    cancelled: bool
    progress: float
    finished: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Standing:
    """What the database says of a job that we work on."""

    fence: int
    cancelled: bool


@dataclass(frozen=True, slots=True)
class FinishedTurn:
    """A completed answer and what it was made of. `events` is what `Ending.events` was, `results` are JSON."""

    question: str
    answer: str
    events: str
    results: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Backlog:
    """The jobs of one kind that have not ended.

    Attributes:
        queued: wait, those included that were offered.
        offered: were offered of late to who will take them.
        running: are at work, or were when their worker was lost.
        lost: of these, those that nobody works on for so long that they are to be offered again.
    """

    queued: int
    offered: int
    running: int
    lost: int


@dataclass(frozen=True, slots=True)
class Offered:
    """A job that is to be offered to whoever has a place. `trace`: the W3C headers of who asked for it."""

    job_id: str
    tenant: str
    kind: str
    trace: Mapping[str, str]


class JobStore(Protocol):
    """The state database, as the jobs see it. Every method raises PersistFailed when it cannot answer."""

    async def submit(self, job: NewJob, bounds: Bounds, on_commit: Any = None) -> Accepted:
        """Queue a job, with its first event. `on_commit` gets the same once it is certain.

        Raises:
            Conflict: its key was used for another body.
            RateLimited: too many of the tenant's jobs wait.
            Overloaded: too many jobs wait.
        """
        ...

    async def find(self, tenant: str, job_id: str) -> StoredJob | None:
        """Return a job of this tenant, None for none."""
        ...

    async def page(self, tenant: str, before: int | None, limit: int, kind: str | None = None) -> Sequence[StoredJob]:
        """Return the tenant's newest jobs, from the one before `before` (a `seq`) on; of one kind, if that is given."""
        ...

    async def log(self, job_id: str, after: int, limit: int) -> Sequence[JobEvent]:
        """Return the events of a job that follow number `after`, in order."""
        ...

    async def cancel(self, tenant: str, job_id: str) -> tuple[JobStatus, str] | None:
        """Cancel what waits, ask who works on it to stop; return the status before and the kind, None for no job."""
        ...

    async def claim(
        self, worker_id: str, kinds: Sequence[str], lease: float, *, lost: bool = True
    ) -> ClaimedJob | None:
        """Take the next job of one of `kinds`: first what its worker was lost with, then fairly among tenants.

        Not `lost`: there is nothing of the first sort, as far as the caller knows.
        """
        ...

    async def backlog(self) -> Mapping[str, Backlog]:
        """Return what has not ended, by kind."""
        ...

    async def offer(self, kind: str, most: int, again: float) -> Sequence[Offered]:
        """Return the next jobs of a kind that nobody was offered, fairly among tenants, and lost ones; at most `most`.

        Each is offered again after `again` seconds if nobody has taken it by then.
        """
        ...

    async def take(self, worker_id: str, job_id: str, lease: float) -> ClaimedJob | JobStatus | None:
        """Take this job, if nobody works on it; else return how it stands, None for no such job."""
        ...

    async def renew(self, worker_id: str, lease: float) -> None:
        """Extend the leases of all that this worker works on."""
        ...

    async def standing(self, worker_id: str) -> Mapping[str, Standing]:
        """Return what this worker works on, by job id."""
        ...

    async def begin_step(self, job_id: str, fence: int, step: str) -> int:
        """Note that a step begins; return the number of this attempt, from 1; raise LeaseLost."""
        ...

    async def finish_step(self, job_id: str, fence: int, step: str, output: Any, progress: float) -> None:
        """Write the checkpoint: output, progress and event in one transaction; raise LeaseLost."""
        ...

    async def note_progress(self, job_id: str, fence: int, progress: float) -> None:
        """Write how far it is, from 0 to 1; raise LeaseLost."""
        ...

    async def end(self, job_id: str, fence: int, status: Ended, *, result: Any = None, code: str = "") -> float:
        """Write how it ended; return the seconds since its first claim; raise LeaseLost."""
        ...

    async def give_back(self, job_id: str, fence: int) -> None:
        """Queue it again for somebody else, who goes on after its last checkpoint; raise LeaseLost."""
        ...

    async def waiting(self) -> tuple[Mapping[str, int], bool]:
        """Return how many jobs wait, by kind, and whether a worker was lost with one."""
        ...

    async def forget(self, kept: float) -> int:
        """Forget jobs that ended more than `kept` seconds ago; return how many, at most 500."""
        ...

    async def finished_turn(self, tenant: str, user: str, message_id: str) -> FinishedTurn | None:
        """Return a completed answer of this user with what it was made of; None for none."""
        ...
