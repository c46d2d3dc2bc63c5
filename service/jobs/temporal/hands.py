"""The activities: one worker's part in a job, and the word on a job that was cancelled before it had a worker.

An attempt of Temporal is only the occasion. It takes the job's lease in the state database before it does anything, so
an attempt that was given up for dead and lives on finds its fence gone, and stops.
"""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING

from temporalio import activity
from temporalio.exceptions import ApplicationError, ApplicationErrorCategory
from temporalio.service import RPCError
from temporalio.worker import CustomSlotSupplier, SlotPermit

from service.errors import ForebayError
from service.jobs.temporal.tracing import caller
from service.jobs.temporal.workflow import BEGUN, SETTLE, WORK, Report, Ticket
from service.runtime.shelter import until_done
from service.work import ENDED, ClaimedJob
from telemetry.catalogue import JOBS_TOTAL

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from temporalio.worker import SlotMarkUsedContext, SlotReleaseContext, SlotReserveContext

    from service.jobs.crew import Crew, Held
    from service.runtime.place import Place

BEAT = 1.0  # seconds: how soon a cancellation that Temporal knows of is heard
PATIENCE = 3.0  # seconds that a job may wait in here for a place before it is given to another process
SIGNAL = 5.0  # seconds for a call that the work does not wait for


class Hands:
    """What one process does for Temporal."""

    def __init__(self, crew: Crew) -> None:
        self._crew = crew
        self._asked: dict[SlotPermit, str] = {}  # the kind of each job that was asked for and has not come
        self._used: dict[SlotPermit, str] = {}  # and of each that has come, those included that have no place yet
        self._changed = asyncio.Event()
        self._loop = asyncio.get_running_loop()

    def came(self, permit: SlotPermit, kind: str) -> None:
        """A job has come. Called by the client's threads."""
        self._used[permit] = kind
        self._asked.pop(permit, None)

    def went(self, permit: SlotPermit) -> None:
        """It has gone, or none ever came. Called by the client's threads."""
        self._used.pop(permit, None)
        self._asked.pop(permit, None)
        with suppress(RuntimeError):  # the loop is closed: nobody waits any more
            self._loop.call_soon_threadsafe(self._changed.set)

    async def ask(self, kind: str) -> SlotPermit:
        """Wait until a job of this kind could be begun; then one may be asked for."""
        while not self._has_room(kind):
            self._changed.clear()
            await self._changed.wait()
        permit = SlotPermit()
        self._asked[permit] = kind
        return permit

    def _has_room(self, kind: str) -> bool:
        """Look at what is here and at what of this kind may come; the other kinds may get the place before it does."""
        crew, used = self._crew, tuple(self._used.values())
        asked = tuple(self._asked.values()).count(kind)
        free = len(used) + asked < crew.gate.statistics().limit
        return free and used.count(kind) + asked < crew.kinds[kind].concurrency and not crew.draining

    @activity.defn(name=WORK)
    async def work(self, ticket: Ticket) -> Report:
        """Work on a job until it has ended, or must be given back."""
        if self._crew.draining:
            return Report("given_back")
        place = await self._place(ticket)
        try:
            taken = await self._take(ticket)
        except BaseException:
            place.release()
            raise
        if isinstance(taken, Report):
            place.release()
            return taken
        held = self._crew.begin(*taken, place, caller())
        async with _beating(ticket, held):
            return await _until_it_ends(held)

    @activity.defn(name=SETTLE)
    async def settle(self, ticket: Ticket) -> Report:
        """Cancel a job in the database whose workflow was cancelled; say how it stands."""
        with _told():
            found = await self._crew.store.cancel(ticket.tenant, ticket.job_id)
        if found is None:
            raise _failure("NoSuchJob", "There is no such job in this state database", for_good=True)
        before, kind = found
        if before == "queued":
            self._crew.observer.inc(JOBS_TOTAL, kind, "cancelled")
        return Report(before if before in ENDED else "cancelled")

    async def _place(self, ticket: Ticket) -> Place:
        """Wait a little for a place: each kind asks for work by itself, so together they may get one too many."""
        try:
            async with asyncio.timeout(PATIENCE):
                with _told():
                    return await self._crew.gate.acquire(ticket.tenant, asyncio.current_task())
        except TimeoutError:
            raise _failure("NoPlace", "This process has no place free") from None

    async def _take(self, ticket: Ticket) -> tuple[ClaimedJob, float] | Report:
        """Take the job and say until when, in loop time; or say how it has ended already."""
        crew, before = self._crew, asyncio.get_running_loop().time()
        with _told():
            taken = await crew.store.take(crew.worker_id, ticket.job_id, crew.pulse.lease)
        if isinstance(taken, ClaimedJob):
            return taken, before + crew.pulse.lease
        if taken is None:
            raise _failure("NoSuchJob", "There is no such job in this state database", for_good=True)
        if taken in ENDED:
            return Report(taken)
        raise _failure("Held", "Another worker has it, or had it a moment ago")


class Slots(CustomSlotSupplier):
    """Asks for a job of one kind only while there is room for it.

    No place is held for it: a poll may wait for a minute, and the place would be missing to the other kinds.
    """

    def __init__(self, hands: Hands, kind: str) -> None:
        self._hands, self._kind = hands, kind

    async def reserve_slot(self, ctx: SlotReserveContext) -> SlotPermit:  # noqa: ARG002  (theirs)
        """Return once there is room."""
        return await self._hands.ask(self._kind)

    def try_reserve_slot(self, ctx: SlotReserveContext) -> SlotPermit | None:  # noqa: ARG002
        """Take nothing past the queue."""
        return None

    def mark_slot_used(self, ctx: SlotMarkUsedContext) -> None:
        """Count a job that has come."""
        self._hands.came(ctx.permit, self._kind)

    def release_slot(self, ctx: SlotReleaseContext) -> None:
        """Count it no more."""
        self._hands.went(ctx.permit)


@asynccontextmanager
async def _beating(ticket: Ticket, held: Held) -> AsyncIterator[None]:
    """Tell Temporal that the work has begun, and every second that it goes on and how far it is."""

    async def beat() -> None:
        with suppress(RPCError, TimeoutError):  # it only shows there: the work and its heartbeats go on without
            handle = activity.client().get_workflow_handle(ticket.job_id)
            async with asyncio.timeout(SIGNAL):
                await handle.signal(BEGUN)
        while True:
            activity.heartbeat(round(held.run.progress, 4))
            await asyncio.sleep(BEAT)

    task = asyncio.create_task(beat())
    try:
        yield
    finally:
        task.cancel()
        await until_done(task)


async def _until_it_ends(held: Held) -> Report:
    """Wait for the end of the work; if Temporal wants it to stop, stop it, and wait all the same."""
    paused = False
    try:
        await asyncio.shield(held.task)
    except asyncio.CancelledError:  # cancellation: by Temporal, which is told the outcome; or of the work itself
        why = activity.cancellation_details()
        paused = why is not None and why.paused
        held.run.stop("cancelled" if why is not None and why.cancel_requested else "given_back")
        await until_done(held.task)
    outcome = "given_back" if held.task.cancelled() else held.task.result()
    if outcome == "lost":
        raise _failure("Lost", "The lease was lost")
    if paused and outcome == "given_back":
        raise _failure("Paused", "Given back, since it was paused")
    return Report(outcome, held.run.code)


class _told:  # noqa: N801  (used as a function)
    """Turns our errors into Temporal's, with our words only: another attempt follows."""

    def __enter__(self) -> None:
        """Nothing to do yet."""

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, stack: object) -> None:
        if isinstance(error, ForebayError):
            raise _failure(error.code, error.detail) from None


def _failure(kind: str, text: str, *, for_good: bool = False) -> ApplicationError:
    """Return what ends an attempt without a stain: it is no failure of the job, and is not logged as one."""
    return ApplicationError(text, type=kind, non_retryable=for_good, category=ApplicationErrorCategory.BENIGN)
