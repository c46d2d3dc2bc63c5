"""The engine on Temporal: connected in the background, its workers and the relay, all of it until the process ends.

A process starts without Temporal and goes on without it: jobs are accepted up to the queue's bounds and handed over
once it is there. /readyz tells. Made by the workforce, if the settings say so.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from datetime import timedelta
from functools import cache
from importlib.metadata import version
from typing import TYPE_CHECKING

from temporalio.client import Client
from temporalio.runtime import Runtime, TelemetryConfig
from temporalio.service import RPCError
from temporalio.worker import FixedSizeSlotSupplier, PollerBehaviorSimpleMaximum, Worker, WorkerTuner

from service.jobs.temporal.attributes import Unusable, register
from service.jobs.temporal.hands import BEAT, Hands, Slots
from service.jobs.temporal.relay import TIMEOUT, Relay
from service.jobs.temporal.tracing import Tracing
from service.jobs.temporal.workflow import QUEUE, JobWorkflow, queue_of
from service.runtime.outage import Outage
from telemetry.catalogue import LOG_TEMPORAL

if TYPE_CHECKING:
    from service.jobs.crew import Crew

CONNECT = 10.0  # seconds
PAUSES = (1.0, 2.0, 5.0, 10.0)  # seconds between two tries to connect; the last one from then on
CLOSE = 5.0  # seconds for the workers to end once nothing is worked on
NEVER = timedelta(days=1)  # the crew ends the work; the workers need not
BUILD = f"forebay-{version('forebay')}"
WORKFLOWS = 50  # at once; each is a matter of milliseconds


class Temporal:
    """Implements `engine.Engine`."""

    def __init__(self, crew: Crew, address: str, namespace: str) -> None:
        self._crew, self._address, self._namespace = crew, address, namespace
        self._hands = Hands(crew)
        self._outage = Outage("jobs", crew.observer)
        self._client: Client | None = None
        self._relay: Relay | None = None
        self._workers: list[Worker] = []
        self._running: asyncio.Task[None] | None = None
        self._calls: set[asyncio.Task[None]] = set()
        crew.on_change = self._change

    def start(self) -> None:
        """Begin; `drain` and `stop` end it."""
        self._crew.start()
        self._running = asyncio.create_task(self._run(), name="jobs: temporal")

    def nudge(self) -> None:
        """Hand over now what somebody has just queued."""
        if self._relay is not None:
            self._relay.nudge()

    def call_off(self, job_id: str) -> None:
        """Cancel the workflow too: it may wait for a worker, or its worker hear of it sooner."""
        if self._client is not None:
            task = asyncio.create_task(_cancel(self._client, job_id))
            self._calls.add(task)
            task.add_done_callback(self._calls.discard)

    def state(self) -> str:
        """Return `starting` until it was connected once, `failed` while Temporal does not answer, else `ready`."""
        if self._outage:
            return "failed"
        return "starting" if self._relay is None else "ready"

    async def drain(self, seconds: float) -> None:
        """Ask for nothing more; let each job come to its next checkpoint within `seconds`, then give it back."""
        self._crew.draining = True
        closing = [asyncio.create_task(worker.shutdown()) for worker in self._workers]
        await self._crew.drain(seconds)
        if closing:
            await asyncio.wait(closing, timeout=CLOSE)

    async def stop(self) -> None:
        """End at once and wait until it has ended; what could not be given back is taken over when its lease ends."""
        await self._crew.stop()
        tasks = [*self._calls, *([self._running] if self._running is not None else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _change(self) -> None:
        self._hands.notice()
        self.nudge()

    async def _run(self) -> None:
        """Work for Temporal; when that fails, say so, wait, and begin again."""
        failures = 0
        while not self._crew.draining:
            try:
                await self._work()
            except (RPCError, RuntimeError, TimeoutError, Unusable) as error:  # RuntimeError: what the client raises
                self._outage.begin(self, error)
                self._crew.observer.log(
                    LOG_TEMPORAL, address=self._address, namespace=self._namespace, failure=_failure(error)
                )
                await asyncio.sleep(PAUSES[min(failures, len(PAUSES) - 1)])
                failures += 1

    async def _work(self) -> None:
        """Connect, and serve until the workers are shut down or one of them fails."""
        async with asyncio.timeout(CONNECT):
            client = await Client.connect(
                self._address,
                namespace=self._namespace,
                interceptors=[Tracing(self._crew.observer)],
                runtime=_runtime(),
            )
            await register(client)
        self._client, self._relay = client, Relay(self._crew, client, self._outage)
        self._workers = [self._workflow_worker(client), *(self._worker(client, kind) for kind in self._crew.kinds)]
        relaying = asyncio.create_task(self._relay.run(), name="jobs: relay")
        working = [asyncio.create_task(worker.run(), name="jobs: worker") for worker in self._workers]
        self._outage.end(self)
        try:
            done, _ = await asyncio.wait([relaying, *working], return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            relaying.cancel()
            await asyncio.gather(*(worker.shutdown() for worker in self._workers), return_exceptions=True)
            await asyncio.gather(relaying, *working, return_exceptions=True)
            self._client = self._relay = None
            self._workers = []

    def _workflow_worker(self, client: Client) -> Worker:
        return Worker(
            client,
            task_queue=QUEUE,
            workflows=[JobWorkflow],
            build_id=BUILD,
            activities=[self._hands.settle],
            max_concurrent_workflow_tasks=WORKFLOWS,
            graceful_shutdown_timeout=NEVER,
        )

    def _worker(self, client: Client, kind: str) -> Worker:
        """Return who asks for jobs of one kind, one at a time."""
        few = FixedSizeSlotSupplier(1)
        tuner = WorkerTuner.create_composite(
            workflow_supplier=few,
            activity_supplier=Slots(self._hands, kind),
            local_activity_supplier=few,
            nexus_supplier=few,
        )
        return Worker(
            client,
            task_queue=queue_of(kind),
            activities=[self._hands.work],
            build_id=BUILD,
            tuner=tuner,
            activity_task_poller_behavior=PollerBehaviorSimpleMaximum(1),
            max_heartbeat_throttle_interval=timedelta(seconds=BEAT),
            graceful_shutdown_timeout=NEVER,
        )


def _failure(error: Exception) -> str:
    """Say what is the matter in words of ours."""
    match error:
        case Unusable():
            return str(error)
        case RPCError():
            return error.status.name.lower()
        case TimeoutError():
            return "no answer"
    return "not reachable, or its namespace is not there"


@cache
def _runtime() -> Runtime:
    """Return this process's threads of the client. It writes no lines of its own: ours say what is the matter."""
    return Runtime(telemetry=TelemetryConfig(logging=None))


async def _cancel(client: Client, job_id: str) -> None:
    with suppress(RPCError):  # the database has it already: who works on it, or is about to, finds it there
        await client.get_workflow_handle(job_id).cancel(rpc_timeout=TIMEOUT)
