"""One job in the hands of this worker: its flow, step by step, and how it ended. Made and stopped by crew.py.

Whatever stops it, nothing is written that the fence does not allow, and what has finished stays finished.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from functools import partial
from itertools import count
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from service.errors import Cancelled, Code, ForebayError, PersistFailed, PhaseTimeout
from service.jobs.kind import StepUse
from service.runtime.shelter import until_done
from service.work import LeaseLost
from telemetry.catalogue import LOG_BUG, Attr

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping
    from random import Random

    from service.jobs.kind import Kind, Step
    from service.jobs.means import Means
    from service.work import ClaimedJob, Ended, JobStore
    from telemetry.observe import Observer, Span

T = TypeVar("T")

Why = Literal["cancelled", "lost", "given_back", "timeout"]

MOST_RECOVERIES = 10  # a job that its workers do not survive is given up
NOTE_EVERY = 0.5  # seconds between two notes of progress
FIRST_PAUSE, LONGEST_PAUSE = 0.5, 8.0  # seconds before a step is tried again
LONGEST_WAIT = 60.0  # seconds, if a limit asks for it
STORE_PAUSE = 0.5  # seconds before a write is tried again, for as long as the lease lasts


class GivenUp(Exception):
    """The worker is to stop, and this job stands at a checkpoint."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """How a run ended: what is written of it. `given_back` and `lost` end the run and not the job."""

    outcome: Ended | Literal["given_back", "lost"]
    result: Any = None
    code: str = ""


class Run:
    """Implements `kind.Job`."""

    def __init__(
        self,
        claimed: ClaimedJob,
        kind: Kind,
        means: Means,
        store: JobStore,
        observer: Observer,
        random: Random,
        caller: Mapping[str, str] | None = None,
    ) -> None:
        self.claimed, self.kind = claimed, kind
        self.code = ""  # why it failed, once the job has ended here
        self.giving_up = False  # no further step is begun
        self.span: Span | None = None  # the job's, once it has begun: duration's exemplar leads to it
        self.duration: float | None = None  # seconds, once the job has ended here
        self._means, self._store, self._observer, self._random = means, store, observer, random
        self._links = [headers for headers in (claimed.trace, caller) if headers]
        self._finished = dict(claimed.finished)
        self.progress = claimed.progress  # from 0 to 1, at the last checkpoint
        self._noted_at = 0.0
        self._why: Why | None = None
        self._flow: asyncio.Task[Any] | None = None

    def stop(self, why: Why) -> None:
        """Stop what is awaited now. The first reason counts, but for a lost lease: nothing may be written after it."""
        if self._why is None or why == "lost":
            self._why = why
        if self._flow is not None:
            self._flow.cancel()

    async def work(self) -> str:
        """Do the job, or the rest of it; return what became of it. The span is a root: it outlives the request."""
        claimed, name = self.claimed, self.kind.name
        attributes: dict[str, str | int] = {
            Attr.JOB_ID: claimed.job_id,
            Attr.JOB_KIND: name,
            Attr.ATTEMPT: claimed.fence,
            Attr.TENANT: claimed.principal.tenant,
        }
        with self._observer.span(f"job {name}", attributes=attributes, links=self._links) as span:
            self.span = span
            verdict = await self._end(await self._verdict())
            self.code = verdict.code
            span.set(Attr.OUTCOME, verdict.outcome)
            if verdict.outcome == "failed":
                span.fail(verdict.code)
        return verdict.outcome

    # --- the flow's side ---------------------------------------------------------------------------------------------

    async def step(self, step: Step, given: Any = None, *, part: str = "", share: float = 0.0) -> Any:
        """Run `step` and write its checkpoint; return its output, at once if it has finished before."""
        name = f"{step.name}:{part}" if part else step.name
        if name in self._finished:
            return self._finished[name]
        if self.giving_up:
            raise GivenUp
        output = await self._until_it_works(step, name, given, share)
        self.progress = min(1.0, self.progress + share)
        await self._insist(partial(self._store.finish_step, *self._held, name, output, self.progress))
        self._finished[name] = output
        return output

    async def _until_it_works(self, step: Step, name: str, given: Any, share: float) -> Any:
        for failures in count(1):
            attempt = await self._insist(partial(self._store.begin_step, *self._held, name))
            try:
                return await self._attempt(step, name, attempt, given, share)
            except ForebayError as error:
                if self.giving_up and error.retryable:
                    raise GivenUp from error
                if not error.retryable or failures >= step.attempts:
                    raise
                await asyncio.sleep(self._pause(failures, error.retry_after or 0.0))
        raise AssertionError  # pragma: no cover  (types: the loop has no end)

    def _pause(self, failures: int, asked: float) -> float:
        """Return the seconds until the next attempt: longer each time, drawn by lot, and not sooner than asked for."""
        longest = min(LONGEST_PAUSE, FIRST_PAUSE * 2.0**failures)
        return max(self._random.uniform(FIRST_PAUSE, longest), min(asked, LONGEST_WAIT))

    async def _attempt(self, step: Step, name: str, attempt: int, given: Any, share: float) -> Any:
        attributes: dict[str, str | int] = {
            Attr.JOB_ID: self.claimed.job_id,
            Attr.JOB_STEP: name,
            Attr.ATTEMPT: attempt,
            Attr.BUDGET_MS: round(step.budget * 1e3),
        }
        use = StepUse(self.claimed.principal, f"{self.claimed.job_id}/{name}", self._means, partial(self._note, share))
        with self._observer.span("job.step", attributes=attributes) as span:
            try:
                async with asyncio.timeout(step.budget) as limit:
                    output = await step.run(use, given)
            except BaseException as error:
                raise _told(span, name, error, overran=limit.expired()) from error
            span.set(Attr.OUTCOME, "ok")
        return output

    async def _note(self, share: float, part: float) -> None:
        now = asyncio.get_running_loop().time()
        if now - self._noted_at >= NOTE_EVERY:
            self._noted_at = now
            progress = min(1.0, self.progress + share * part)
            await self._insist(partial(self._store.note_progress, *self._held, progress))

    @property
    def _held(self) -> tuple[str, int]:
        return self.claimed.job_id, self.claimed.fence

    async def _insist(self, write: Callable[[], Awaitable[T]]) -> T:
        """Write until the database takes it; when the lease runs out meanwhile, the worker stops this."""
        while True:
            try:
                return await write()
            except PersistFailed:
                await asyncio.sleep(STORE_PAUSE)

    # --- how it ends -------------------------------------------------------------------------------------------------

    async def _verdict(self) -> Verdict:
        """Run the flow to its end, within what is left of the job's time, and say how it ended."""
        claimed = self.claimed
        left = self.kind.total - claimed.age
        if self._why is None and claimed.cancelled:
            self._why = "cancelled"
        if self._why is not None:
            return _stopped(self._why)
        if left <= 0:
            return _stopped("timeout")
        if claimed.recoveries > MOST_RECOVERIES:
            return Verdict("failed", code=Code.INTERNAL)
        flow = self._flow = asyncio.create_task(self._run_flow())
        try:
            done, _ = await asyncio.wait({flow}, timeout=left)
            if not done:
                self.stop("timeout")
        finally:
            if not flow.done():
                flow.cancel()
            await until_done(flow)
        return self._of(flow)

    async def _run_flow(self) -> Any:
        return await self.kind.flow(self, self.kind.input.model_validate_json(self.claimed.input))

    def _of(self, flow: asyncio.Task[Any]) -> Verdict:
        if flow.cancelled():
            return _stopped(self._why or "given_back")
        error = flow.exception()
        if error is None:
            return Verdict("completed", flow.result())
        if why := _BY_ERROR.get(type(error), self._why):
            return _stopped(why)
        if isinstance(error, ForebayError):
            return Verdict("failed", code=error.code)
        self._observer.log(LOG_BUG, what=f"job {self.kind.name}", exc_info=error)
        return Verdict("failed", code=Code.INTERNAL)

    async def _end(self, verdict: Verdict) -> Verdict:
        """Write it, unless the lease is lost, or gets lost while the database does not answer."""
        store = self._store
        while verdict.outcome != "lost":
            try:
                if verdict.outcome == "given_back":
                    await store.give_back(*self._held)
                else:
                    self.duration = await store.end(
                        *self._held, verdict.outcome, result=verdict.result, code=verdict.code
                    )
            except LeaseLost:
                return _stopped("lost")
            except PersistFailed:
                await asyncio.sleep(STORE_PAUSE)
                if self._why == "lost":
                    return _stopped("lost")
            else:
                return verdict
        return verdict


_BY_ERROR: dict[type[BaseException], Why] = {LeaseLost: "lost", GivenUp: "given_back", Cancelled: "cancelled"}


def _stopped(why: Why) -> Verdict:
    if why in ("lost", "given_back"):
        return Verdict(why)
    return Verdict("cancelled", code=Code.CANCELLED) if why == "cancelled" else Verdict("failed", code=Code.TIMEOUT)


def _told(span: Span, name: str, error: BaseException, *, overran: bool) -> BaseException:
    """Put on the span how an attempt ended, and return what is to be raised."""
    if overran and isinstance(error, TimeoutError):
        span.set(Attr.OUTCOME, "timeout")
        span.fail("timeout")
        return PhaseTimeout(name, "phase")
    if isinstance(error, asyncio.CancelledError):
        span.set(Attr.OUTCOME, "cancelled")
    else:
        span.set(Attr.OUTCOME, "error")
        span.fail(error.code if isinstance(error, ForebayError) else type(error).__name__)
    return error
