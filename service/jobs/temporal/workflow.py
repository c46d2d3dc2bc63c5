"""The workflow: one for each job, under the job's id. It has the job worked on until it has ended.

Its code must do the same again when Temporal replays a history: it asks nothing but Temporal, and what changes in here
must still replay the histories of the workflows that are open; tests/contract/histories has some. The sandbox that
would watch over it is left out: it imports this file anew for every job, which is a third of a job's CPU.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import timedelta

from temporalio import workflow
from temporalio.common import RetryPolicy, SearchAttributeKey
from temporalio.exceptions import ActivityError, ApplicationError, CancelledError

NAME, BEGUN, WORK, SETTLE = "job", "begun", "job.work", "job.settle"

KIND = SearchAttributeKey.for_keyword("ForebayKind")
TENANT = SearchAttributeKey.for_keyword("ForebayTenant")
STATUS = SearchAttributeKey.for_keyword("ForebayStatus")

QUEUE = "forebay"  # of workflows; the jobs of each kind have their own
HEARTBEAT = timedelta(seconds=10)  # without a word for so long, a worker is given up, and another one takes over
AFTERWARDS = timedelta(seconds=60)  # beyond a job's own time, for its end to be written
AGAIN = RetryPolicy(initial_interval=timedelta(seconds=1), backoff_coefficient=1.0)  # the job's own limits end it


@dataclass(frozen=True)
class Ticket:
    """What a job is worked on by. `total`: the seconds that it may take."""

    job_id: str
    kind: str
    tenant: str
    total: float


@dataclass(frozen=True)
class Report:
    """What became of a job, or of one worker's part in it: `given_back` does not end it. `code` says why it failed."""

    outcome: str
    code: str = ""


def queue_of(kind: str) -> str:
    """Return the task queue of the jobs of one kind: a worker asks for kinds of which it has room for one more."""
    return f"{QUEUE}-{kind}"


@workflow.defn(name=NAME, sandboxed=False)
class JobWorkflow:
    """Ends as its job ends: completed, failed, or cancelled."""

    @workflow.run
    async def run(self, ticket: Ticket) -> str:
        """Have the job worked on, by one worker after another if need be."""
        while (report := await self._worked_on(ticket)).outcome == "given_back":
            workflow.upsert_search_attributes([STATUS.value_set("queued")])
        workflow.upsert_search_attributes([STATUS.value_set(report.outcome)])
        if report.outcome == "failed":
            raise ApplicationError("The job has failed", type=report.code, non_retryable=True)
        if report.outcome == "cancelled" and workflow.cancellation_reason() is not None:
            raise CancelledError("The job was cancelled")
        return report.outcome

    @workflow.signal(name=BEGUN)
    def begun(self) -> None:
        """A worker has begun."""
        workflow.upsert_search_attributes([STATUS.value_set("running")])

    async def _worked_on(self, ticket: Ticket) -> Report:
        try:
            report: Report = await workflow.execute_activity(
                WORK,
                ticket,
                result_type=Report,
                task_queue=queue_of(ticket.kind),
                start_to_close_timeout=timedelta(seconds=ticket.total) + AFTERWARDS,
                heartbeat_timeout=HEARTBEAT,
                retry_policy=AGAIN,
                cancellation_type=workflow.ActivityCancellationType.WAIT_CANCELLATION_COMPLETED,
            )
            return report  # noqa: TRY300  (an else would stand far from it)
        except (ActivityError, asyncio.CancelledError):  # cancellation: of the workflow, answered below
            if workflow.cancellation_reason() is None:
                raise
        # Cancelled while no worker had it, perhaps by an operator of Temporal: then the database does not know yet.
        settled: Report = await workflow.execute_activity(
            SETTLE, ticket, result_type=Report, start_to_close_timeout=HEARTBEAT, retry_policy=AGAIN
        )
        return settled
