"""A connection to Temporal and what runs over it: the workers and the relay. Made by the engine, in a loaded process.

This and what it imports are the only modules that load Temporal's client.
"""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager, suppress
from datetime import timedelta
from functools import cache
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from temporalio.client import Client
from temporalio.runtime import Runtime, TelemetryConfig
from temporalio.service import RPCError
from temporalio.worker import FixedSizeSlotSupplier, PollerBehaviorSimpleMaximum, Worker, WorkerTuner

from service.jobs.temporal.attributes import missing, register
from service.jobs.temporal.hands import BEAT, Hands, Slots
from service.jobs.temporal.relay import TIMEOUT, Relay
from service.jobs.temporal.target import Target, Unusable
from service.jobs.temporal.tracing import Tracing
from service.jobs.temporal.workflow import QUEUE, JobWorkflow, queue_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from service.jobs.crew import Crew
    from service.runtime.outage import Outage

CONNECT = 10.0  # seconds
CLOSE = 5.0  # seconds for the workers to end once nothing is worked on
NEVER = timedelta(days=1)  # the crew ends the work; the workers need not
WORKFLOWS = 50  # at once; each is a matter of milliseconds
BUILD = f"forebay-{version('forebay')}"


async def connect(target: Target, crew: Crew, outage: Outage) -> Session:
    """Return a session that does not run yet; raise Unusable."""
    async with _explained(target):
        client = await _client(target, Tracing(crew.observer))
        await register(client)
    return Session(client, crew, outage)


async def examine(target: Target) -> Sequence[str]:
    """Return the search attributes that the namespace lacks; raise Unusable. For `forebay doctor`."""
    async with _explained(target):
        return tuple(await missing(await _client(target)))


async def _client(target: Target, *interceptors: Tracing) -> Client:
    return await Client.connect(
        target.address, namespace=target.namespace, interceptors=interceptors, runtime=_runtime()
    )


@asynccontextmanager
async def _explained(target: Target) -> AsyncIterator[None]:
    """Bound the calls within, and say in words of ours why one of them failed."""
    try:
        async with asyncio.timeout(CONNECT):
            yield
    except TimeoutError:
        raise Unusable("it does not answer") from None
    except RPCError as error:
        raise Unusable(f"{error.status.name.lower()}, for the namespace {target.namespace}") from None
    except RuntimeError:  # whatever else the client has to say
        raise Unusable("it cannot be reached") from None


class Session:
    """As long as it runs, this process works for Temporal."""

    def __init__(self, client: Client, crew: Crew, outage: Outage) -> None:
        self._client, self._crew = client, crew
        self._hands, self._relay = Hands(crew), Relay(crew, client, outage)
        self._workers = [self._workflow_worker(), *map(self._worker, crew.kinds)]
        self._ending, self._ended = asyncio.Event(), asyncio.Event()

    def nudge(self) -> None:
        """Hand over now what somebody has just queued."""
        self._relay.nudge()

    async def cancel(self, job_id: str) -> None:
        """Cancel a job's workflow, if it has one."""
        with suppress(RPCError):  # the database has it already: who works on it, or is about to, finds it there
            await self._client.get_workflow_handle(job_id).cancel(rpc_timeout=TIMEOUT)

    async def run(self) -> None:
        """Work until `ask_no_more` and the end of what is worked on then.

        Raises:
            Unusable: a worker has failed for good.
        """
        relaying = asyncio.create_task(self._relay.run(), name="jobs: relay")
        ending = asyncio.create_task(self._ending.wait(), name="jobs: end")
        working = [asyncio.create_task(worker.run(), name="jobs: worker") for worker in self._workers]
        try:
            done, _ = await asyncio.wait([relaying, ending, *working], return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        except (RPCError, RuntimeError):  # of a worker: its namespace has gone, or it is not let in
            raise Unusable("it does not let a worker in") from None
        finally:
            relaying.cancel()
            ending.cancel()
            closing = [asyncio.create_task(worker.shutdown()) for worker in self._workers]
            await _end([relaying, ending, *working, *closing])
            self._ended.set()

    def ask_no_more(self) -> None:
        """Let the workers end with what they are at."""
        self._ending.set()

    async def ended(self) -> None:
        """Wait until the workers have ended, for a few seconds."""
        with suppress(TimeoutError):
            async with asyncio.timeout(CLOSE):
                await self._ended.wait()

    def _workflow_worker(self) -> Worker:
        return Worker(
            self._client,
            task_queue=QUEUE,
            workflows=[JobWorkflow],
            activities=[self._hands.settle],
            build_id=BUILD,
            max_cached_workflows=0,  # or each of its next tasks would wait 10 s for this process when it has gone
            max_concurrent_workflow_tasks=WORKFLOWS,
            graceful_shutdown_timeout=NEVER,
        )

    def _worker(self, kind: str) -> Worker:
        """Return who asks for jobs of one kind, one at a time."""
        few = FixedSizeSlotSupplier(1)
        tuner = WorkerTuner.create_composite(
            workflow_supplier=few,
            activity_supplier=Slots(self._hands, kind),
            local_activity_supplier=few,
            nexus_supplier=few,
        )
        return Worker(
            self._client,
            task_queue=queue_of(kind),
            activities=[self._hands.work],
            build_id=BUILD,
            tuner=tuner,
            activity_task_poller_behavior=PollerBehaviorSimpleMaximum(1),
            max_heartbeat_throttle_interval=timedelta(seconds=BEAT),
            graceful_shutdown_timeout=NEVER,
        )


async def _end(tasks: list[asyncio.Task[Any]]) -> None:
    """Wait until all have ended, for as long as the work takes; when that is cancelled, cancel them."""
    try:
        await asyncio.wait(tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks, timeout=CLOSE)
        await asyncio.gather(*(task for task in tasks if task.done()), return_exceptions=True)


@cache
def _runtime() -> Runtime:
    """Return this process's threads of the client. It writes no lines of its own: ours say what is the matter."""
    return Runtime(telemetry=TelemetryConfig(logging=None))
