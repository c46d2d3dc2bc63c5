"""A step of a long request under its budget, with its span, its metrics and its outcome. Called by every flow.

`with phase(work, ROW) as step:` is all that the logic sees of telemetry. The block is cancelled when the phase's budget
or what is left of the whole is used up; what was raised, and whose limit it was, becomes the outcome.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from math import inf
from typing import TYPE_CHECKING, Any, Literal, Protocol, Self

from service.errors import ForebayError, PhaseTimeout
from service.runtime.alarm import Alarm
from telemetry.catalogue import PHASE_DURATION_SECONDS, PHASE_OUTCOMES_TOTAL, TIMEOUTS_TOTAL, Attr

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import TracebackType

    from service.errors import Cause
    from telemetry.observe import Observer, Span

Limit = Literal["phase", "total", "client"]


@dataclass(frozen=True, slots=True)
class Phase:
    """A row of the plan. `optional`: over budget or broken, the request goes on without it, and says so.

    `own_clock`: the whole request's deadline does not apply (persisting how it ended, a slow reader, an approval).
    `aside`: runs beside the flow, so it is never where the request is.
    `total_label`: what a timeout of the whole phase is called where it has inner limits with names of their own.
    """

    name: str
    optional: bool = False
    own_clock: bool = False
    aside: bool = False
    total_label: str = ""

    @property
    def whole(self) -> str:
        """The name of a timeout of the whole phase."""
        return self.total_label or self.name


@dataclass(slots=True)
class Total:
    """The budget of the whole request: `deadline` in loop time; `limit` says who set it.

    Within an open phase it may move later; an earlier one holds for the phases that are opened after.
    """

    deadline: float
    limit: Limit = "total"


class Work(Protocol):
    """Whatever goes through phases: a turn, a job. `phases` are the open ones, `where` is the innermost or the last."""

    total: Total
    observer: Observer
    cause: Cause | None
    phases: list[str]
    where: str

    @property
    def budgets(self) -> Mapping[str, float]:
        """Seconds for each phase, by its name."""
        ...

    def phase_changed(self, name: str, budget_ms: int | None, elapsed_ms: int | None, outcome: str | None) -> None:
        """Take note that a phase began (without an outcome) or ended."""
        ...


class phase:  # noqa: N801  (reads as a verb in a `with`)
    """Run a block as `row` of the plan; raise PhaseTimeout when its budget, or what is left of the whole, is used up.

    Args:
        work: the request that this is a part of.
        row: the phase.
        budget: seconds, instead of the plan's.
    """

    __slots__ = (
        "_alarm", "_awaited", "_base", "_loop", "_moving", "_scope", "_since", "_standing", "_stopped", "_where",
        "_work", "outcome", "row", "span",
    )  # fmt: skip

    def __init__(self, work: Work, row: Phase, *, budget: float | None = None) -> None:
        self._work, self.row = work, row
        self._loop = asyncio.get_running_loop()
        self._since = self._loop.time()
        self._where, self._awaited = row.name, row.whole  # what a disconnect, and a timeout, in here is called
        self.outcome: str | None = None
        self._stopped: float | None = None
        self._moving = inf
        self._base = self._since + (work.budgets[row.name] if budget is None else budget)
        self._alarm = Alarm(min(self._base, self._total), self._nearest)

    def __enter__(self) -> Self:
        work, now = self._work, self._since
        if not self.row.aside:
            work.phases.append(self._where)
            work.where = self._where
        attributes: dict[str, Any] = {Attr.PHASE: self.row.name}
        budget_ms = None if self._base == inf else round((self._base - now) * 1e3)
        if budget_ms is not None:
            attributes[Attr.BUDGET_MS] = budget_ms
        attributes[Attr.REMAINING_MS] = round((work.total.deadline - now) * 1e3)
        self._scope = work.observer.span(self.row.name, attributes=attributes)
        self.span: Span = self._scope.__enter__()
        work.phase_changed(self.row.name, budget_ms, None, None)
        self._alarm.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._alarm.__exit__(kind, error, trace)
        if self._alarm.expired:
            raise self._timed_out() from error
        if isinstance(error, ForebayError) and error.phase is None:
            error.phase = self._where
        self._close(self._outcome_of(error), error)

    # --- what a step may say -----------------------------------------------------------------------------------------

    def note(self, attribute: str, value: str | float) -> None:
        """Put a fact on the span under a name of the catalogue; never contents."""
        self.span.set(attribute, value)

    def skip(self) -> None:
        """There was nothing to do: the outcome is `skipped`."""
        self.outcome = "skipped"

    def degrade(self) -> None:
        """It ended with less than it should have: the outcome is `degraded`."""
        self.outcome = "degraded"

    def at(self, where: str) -> None:
        """Say more precisely where the request is: what a disconnect from now on is counted under."""
        phases = self._work.phases
        phases[phases.index(self._where)] = where
        self._where = self._work.where = where

    def expect(self, what: str, within: float) -> None:
        """Move the inner limit: `what` must happen within `within` seconds, and names the timeout when it does not."""
        self._awaited = what
        self._moving = moving = self._loop.time() + within
        if moving < self._alarm.armed_for:  # later needs no telling: the alarm asks when it fires
            self._alarm.move(self._nearest())

    def relax(self) -> None:
        """Drop the inner limit: nothing is awaited now."""
        self._moving = inf

    def left(self) -> float:
        """Return the seconds until the next limit, this phase's or the whole's; the clock must not stand still."""
        return self._nearest() - self._loop.time()

    @property
    def broken_limit(self) -> str | None:
        """The limit of this phase's own that is cancelling the block; None if it is cancelled for another reason."""
        if not self._alarm.rang:
            return None
        name, limit = self._which()
        return name if limit == "phase" else None

    def stop_clock(self, *, total: bool = True) -> None:
        """Somebody else is slow: this phase's own limits stand still until `start_clock`.

        Args:
            total: what is left of the whole applies all the same; not so while another phase keeps to it.
        """
        self._stopped = self._loop.time()
        self._standing = self._total if total else inf

    def start_clock(self) -> None:
        """Go on, with as much as was left when the clock stopped."""
        if self._stopped is None:
            return
        pause = self._loop.time() - self._stopped
        self._stopped = None
        self._base += pause
        self._moving += pause
        self._alarm.move(self._nearest())

    @property
    def unspent(self) -> float:
        """Seconds that are left of the phase's own budget, the time in which its clock stood still not counted."""
        return self._base - self._loop.time()

    # --- how it ended ------------------------------------------------------------------------------------------------

    @property
    def _total(self) -> float:
        return inf if self.row.own_clock else self._work.total.deadline

    def _nearest(self) -> float:
        """Return the limit that comes first."""
        if self._stopped is not None:
            return self._standing
        return min(self._base, self._moving, self._total)

    def _timed_out(self) -> PhaseTimeout:
        """Close the phase with what ended it. No variable of who raises it: error and frame would keep each other."""
        timeout = PhaseTimeout(*self._which())
        self._close("timeout", timeout)
        return timeout

    def _which(self) -> tuple[str, Limit]:
        """Say which limit rang, by its name, and whose it was: the phase's own when they are equal."""
        own = inf if self._stopped is not None else min(self._moving, self._base)
        if own > self._total:
            return self._awaited if self._awaited == self._where else self.row.whole, self._work.total.limit
        return self._awaited if self._moving <= self._base else self.row.whole, "phase"

    def _outcome_of(self, error: BaseException | None) -> str:
        if error is None:
            return self.outcome or "ok"
        if isinstance(error, asyncio.CancelledError | GeneratorExit):
            return "cancelled" if self._work.cause else "abandoned"
        refused = isinstance(error, ForebayError) and error.http_status < 500  # noqa: PLR2004  (HTTP's own border)
        return "rejected" if refused else "error"

    def _close(self, outcome: str, error: BaseException | None) -> None:
        work, span, name = self._work, self.span, self.row.name
        if not self.row.aside:
            work.phases.remove(self._where)
            if work.phases:
                work.where = work.phases[-1]
        span.set(Attr.OUTCOME, outcome)
        if outcome == "timeout" and isinstance(error, PhaseTimeout):
            span.set(Attr.ON_TIMEOUT, "fail_open" if self.row.optional else "fail_closed")
            span.set(Attr.TIMEOUT_LIMIT, error.limit)
            span.fail("timeout")
            work.observer.inc(TIMEOUTS_TOTAL, error.phase, error.limit)
        elif outcome == "error" and error is not None:
            span.fail(error.code if isinstance(error, ForebayError) else type(error).__name__)
        elapsed = self._loop.time() - self._since
        work.observer.record(PHASE_DURATION_SECONDS, elapsed, name, span=span)
        work.observer.inc(PHASE_OUTCOMES_TOTAL, name, outcome)
        work.phase_changed(name, None, round(elapsed * 1e3), outcome)
        self._scope.__exit__(None, None, None)
