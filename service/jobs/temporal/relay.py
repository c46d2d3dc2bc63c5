"""Hands jobs over to Temporal: from the table of jobs, which is the outbox, in the order in which they are next.

A request for a job only writes its row; every process then looks for rows that nobody has handed over. So a job that
was accepted is never lost, whether Temporal is down or a process dies in between, and nobody waits for Temporal to
have a job accepted. Starting a workflow twice under one id starts one.

Only about as many jobs are handed over as are being worked on: a task queue of Temporal has partitions and keeps no
strict order, and its priorities go before its fairness, so that one tenant's urgent jobs would starve another's. What
waits here keeps the order of the embedded engine: tenants in turn, the urgent first within each.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from datetime import timedelta
from typing import TYPE_CHECKING

from temporalio.common import (
    Priority,
    SearchAttributePair,
    TypedSearchAttributes,
    WorkflowIDConflictPolicy,
    WorkflowIDReusePolicy,
)
from temporalio.service import RPCError

from service.errors import ForebayError
from service.jobs.temporal.workflow import KIND, NAME, QUEUE, STATUS, TENANT, Ticket
from telemetry.catalogue import JOBS_QUEUE_DEPTH, Attr

if TYPE_CHECKING:
    from collections.abc import Sequence

    from temporalio.client import Client

    from service.jobs.crew import Crew
    from service.runtime.outage import Outage
    from service.work import Backlog, Offered

LEAST, BATCH = 8, 50  # jobs of one kind with Temporal that nobody works on yet, in any case; of one look
AGAIN = 15.0  # seconds until a job that nobody has taken is handed over once more
PART = "relay"  # of what an outage is known by
LONGEST_KEY = 64  # bytes of a fairness key
TIMEOUT = timedelta(seconds=5)  # for one call, and for one task of a workflow: who took it may have gone
SILENCE = 5.0  # seconds after which Temporal is asked whether it is there


class Relay:
    """One in each process that is connected. `outage`: what it finds out about Temporal."""

    def __init__(self, crew: Crew, client: Client, outage: Outage) -> None:
        self._crew, self._client, self._outage = crew, client, outage
        self._nudged = asyncio.Event()
        self._heard_at = 0.0  # loop time of Temporal's last answer

    def nudge(self) -> None:
        """Look now."""
        self._nudged.set()

    async def run(self) -> None:
        """Hand over what there is, again and again; while there is nothing, ask whether Temporal is there."""
        while True:
            try:
                await self._look()
                await self._listen()
            except RPCError as error:
                self._outage.begin(PART, error)
            except ForebayError:
                pass  # told where it happened; the next round tries again
            else:
                self._outage.end(PART)
            with suppress(TimeoutError):
                async with asyncio.timeout(self._crew.pulse.poll):
                    await self._nudged.wait()
            self._nudged.clear()

    async def _look(self) -> None:
        crew = self._crew
        found = await crew.store.backlog()
        for kind in crew.kinds:
            there = found.get(kind)
            crew.observer.set(JOBS_QUEUE_DEPTH, there.queued if there else 0, kind)
            if there and (most := _wanted(there)):
                await self._hand_over(await crew.store.offer(kind, most, AGAIN))

    async def _hand_over(self, jobs: Sequence[Offered]) -> None:
        """Start their workflows; raise RPCError if one of them was not taken: it is offered again after a while."""
        for outcome in await asyncio.gather(*map(self._start, jobs), return_exceptions=True):
            if isinstance(outcome, BaseException):
                raise outcome
            self._heard_at = asyncio.get_running_loop().time()

    async def _listen(self) -> None:
        now = asyncio.get_running_loop().time()
        if now - self._heard_at > SILENCE:
            await self._client.service_client.check_health(timeout=TIMEOUT)
            self._heard_at = now

    async def _start(self, job: Offered) -> None:
        attributes = {Attr.JOB_ID: job.job_id, Attr.JOB_KIND: job.kind, Attr.TENANT: job.tenant}
        with self._crew.observer.span("job.dispatch", kind="client", attributes=attributes, links=[job.trace]) as span:
            try:
                await self._client.start_workflow(
                    NAME,
                    Ticket(job.job_id, job.kind, job.tenant, self._crew.kinds[job.kind].total),
                    id=job.job_id,
                    task_queue=QUEUE,
                    task_timeout=TIMEOUT,
                    id_conflict_policy=WorkflowIDConflictPolicy.USE_EXISTING,
                    id_reuse_policy=WorkflowIDReusePolicy.ALLOW_DUPLICATE,
                    search_attributes=TypedSearchAttributes(
                        [
                            SearchAttributePair(KIND, job.kind),
                            SearchAttributePair(TENANT, job.tenant),
                            SearchAttributePair(STATUS, "queued"),
                        ]
                    ),
                    priority=Priority(fairness_key=job.tenant.encode()[:LONGEST_KEY].decode(errors="ignore")),
                    rpc_timeout=TIMEOUT,
                )
            except RPCError as error:
                span.fail(error.status.name.lower())
                raise


def _wanted(there: Backlog) -> int:
    """Return how many more to hand over."""
    waiting = there.queued - there.offered
    room = max(LEAST, there.running) - there.offered
    return max(0, min(waiting + there.lost, room, BATCH))
