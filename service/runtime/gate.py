"""Places of one resource, granted fairly among tenants, from a bounded queue. The flow and the providers call it.

There is one gate for each resource: the requests as a whole (which grants a request's place and its tenant's place in
one go, so that neither is held while waiting for the other), each provider, retrieval, each tool, the jobs. A place
that comes free is handed to the next waiter directly: nobody who comes later takes it in between, so a free place and
a waiter who may have it never exist side by side. `lines.py` says whose turn it is, `adaptive.py` how many places
there are, `pace.py` how fast they come free.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from service.errors import Overloaded, RateLimited, Reason
from service.runtime.adaptive import Fixed, Limit
from service.runtime.gauges import Gauges
from service.runtime.lines import Line, Lines, Waiter
from service.runtime.pace import Pace, Recent
from service.runtime.place import Owner, Place, Statistics, TenantUse

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from telemetry.observe import Observer

__all__ = ["Gate", "Place", "Statistics", "TenantUse"]

LONGEST_RETRY_AFTER = 60.0  # seconds; nobody is sent away for longer on the strength of an estimate


class Gate:
    """Grants the places of one resource.

    Args:
        resource: the metrics' label.
        limit: how many places there are, or what finds it out.
        queue: how many may wait, all tenants together.
        observer: where depth, waits and places in use are told.
        tenant_limit: how many places one tenant may have at once. One that has them all waits in its own line and is
            passed over meanwhile. None: no such limit.
        tenant_queue: how many of one tenant may wait. None: as many as the queue holds.
        weights: places that a tenant gets in one turn, at least 1, which is the default.
    """

    def __init__(
        self,
        resource: str,
        limit: int | Limit,
        *,
        queue: int,
        observer: Observer,
        tenant_limit: int | None = None,
        tenant_queue: int | None = None,
        weights: Mapping[str, float] | None = None,
    ) -> None:
        self.resource = resource
        self._limit: Limit = Fixed(limit) if isinstance(limit, int) else limit
        self._queue = queue
        self._tenant_queue = tenant_queue
        self._lines = Lines(weights or {}, tenant_limit)
        self._places: set[Place] = set()
        self._pace = Pace()
        self._samples = Recent()
        self._notice: Callable[[], None] | None = None
        self._tell = Gauges(observer, resource)
        self._tell.limit(self._limit.value)

    # --- asking for a place -------------------------------------------------------------------------------------

    def try_acquire(self, tenant: str, owner: Owner = None) -> Place | None:
        """Return a place if there is one at once, which nobody who waits can be waiting for; else None."""
        line = self._lines.of(tenant)
        if not self._free or self._lines.at_limit(line):
            return None
        self._tell.waited(0.0)
        return self._grant(line, owner)

    async def acquire(self, tenant: str, owner: Owner = None) -> Place:
        """Wait until it is this tenant's turn and return the place. The caller bounds the wait, by cancelling it.

        Args:
            tenant: whose line to wait in.
            owner: the task that is to release the place: once it has ended without doing so, `audit` tells.

        Raises:
            RateLimited: the tenant's own line is full.
            Overloaded: the queue is full, and no other tenant has more in it.
        """
        return self.try_acquire(tenant, owner) or await self._wait(self._lines.of(tenant), owner)

    def check(self, tenant: str, patience: float) -> None:
        """Refuse at once what could only be refused later, before anything is spent on it.

        Args:
            tenant: who would wait.
            patience: seconds that it can wait; negative if its time is over even without a wait.

        Raises:
            RateLimited: the tenant's own line is full, or its own limit would hold it back for longer.
            Overloaded: the queue is full, or the wait is expected to be longer.
        """
        line = self._lines.of(tenant)
        if not self._free or self._lines.at_limit(line):
            self._room_for(line)
        if self.expected_wait(tenant) > patience:
            raise self.refusal(tenant)

    # --- what to expect -----------------------------------------------------------------------------------------

    def why_waiting(self, tenant: str) -> Reason:
        """Say what a request of this tenant waits for: only its own limit, or a place at all."""
        own_limit_alone = self._free and self._lines.at_limit(self._lines.of(tenant))
        return Reason.TENANT_CONCURRENCY if own_limit_alone else Reason.DEADLINE

    def refusal(self, tenant: str) -> RateLimited | Overloaded:
        """Return the error for a request whose time to wait is over."""
        retry_after = self.retry_after(tenant)
        if self.why_waiting(tenant) is Reason.TENANT_CONCURRENCY:
            detail = "All places of your tenant are in use"
            return RateLimited(detail, reason=Reason.TENANT_CONCURRENCY, retry_after=retry_after)
        return Overloaded("No place came free in time", reason=Reason.DEADLINE, retry_after=retry_after)

    def expected_wait(self, tenant: str) -> float:
        """Return the seconds that a request of this tenant would wait if it came now, at the present pace."""
        line = self._lines.of(tenant)
        wait = 0.0
        if self.tenant_limit is not None and self._lines.at_limit(line):
            wait = self._pace.until(len(line.waiting) + 1, self.tenant_limit)
        if not self._free:
            wait = max(wait, self._pace.until(self._lines.ahead_of(line) + 1, self._limit.value))
        return wait

    def expected_sample(self) -> float:
        """Return the seconds to the first token as its places reported them of late; 0 if nobody has."""
        return self._samples.fresh(asyncio.get_running_loop().time())

    def retry_after(self, tenant: str | None = None) -> float:
        """Return when to come again, in seconds from 1 to 60: once those have been served who wait now."""
        if tenant is None:
            wait = self._pace.until(self._lines.waiting + 1, self._limit.value)
        else:
            wait = self.expected_wait(tenant)
        return min(max(wait, 1.0), LONGEST_RETRY_AFTER)

    # --- looking after it ---------------------------------------------------------------------------------------

    @property
    def tenant_limit(self) -> int | None:
        """How many places one tenant may have at once, if that is limited."""
        return self._lines.tenant_limit

    @property
    def in_use(self) -> int:
        """Places that are granted, also those beyond a limit that has shrunk since."""
        return len(self._places)

    @property
    def waiting(self) -> int:
        """Requests that wait."""
        return self._lines.waiting

    def call_when_short(self, notice: Callable[[], None]) -> None:
        """Have `notice` called whenever a request begins to wait: more places may be had elsewhere."""
        self._notice = notice

    def set_limit(self, limit: int, *, tenant_limit: int | None = None) -> None:
        """Change the number of places (of an adaptive limit: the most). Fewer: those granted stay until released.

        Args:
            limit: the new number, 0 or more.
            tenant_limit: how many of them one tenant may have; None leaves it as it is.
        """
        self._limit.resize(limit)
        if tenant_limit is not None:
            self._lines.set_tenant_limit(tenant_limit)
        self._limit_moved()

    def statistics(self) -> Statistics:
        """Return the numbers of this moment."""
        lines = (line for line in self._lines if line.in_use or line.waiting)
        tenants = {line.tenant: TenantUse(line.in_use, len(line.waiting)) for line in lines}
        return Statistics(len(self._places), self._limit.value, self._lines.waiting, tenants)

    def audit(self) -> int:
        """Count the places whose owner has ended, and tell the gauge: anything but 0 is a bug of the caller."""
        unowned = sum(place.owner is not None and place.owner.done() for place in self._places)
        self._tell.unowned(unowned)
        return unowned

    # --- inside -------------------------------------------------------------------------------------------------

    @property
    def _free(self) -> bool:
        return len(self._places) < self._limit.value

    async def _wait(self, line: Line, owner: Owner) -> Place:
        evicted = self._room_for(line)
        if evicted is not None:
            self._push_out(evicted)
        loop = asyncio.get_running_loop()
        began = loop.time()
        waiter = self._lines.join(line, owner, loop.create_future())
        self._tell.depth(self._lines.waiting)
        if self._notice is not None:
            self._notice()
        try:
            place: Place = await waiter.outcome
        except asyncio.CancelledError:
            self._withdraw(waiter)
            raise
        finally:
            self._tell.waited(loop.time() - began)
        return place

    def _room_for(self, line: Line) -> Waiter | None:
        """Return who must go so that this line can have one more, None if there is room; raise if there is none."""
        if self._tenant_queue is not None and len(line.waiting) >= self._tenant_queue:
            detail = "Too many requests of your tenant are waiting"
            raise RateLimited(detail, reason=Reason.TENANT_QUEUE_FULL, retry_after=self.retry_after(line.tenant))
        if self._lines.waiting < self._queue:
            return None
        longest = self._lines.longest()
        if longest is None or len(line.waiting) >= len(longest.waiting):
            raise self._queue_full(line)
        return longest.waiting[-1]

    def _queue_full(self, line: Line) -> Overloaded:
        retry_after = self.retry_after(line.tenant)
        return Overloaded("Too many requests are waiting", reason=Reason.QUEUE_FULL, retry_after=retry_after)

    def _push_out(self, waiter: Waiter) -> None:
        self._lines.leave(waiter)
        if not waiter.gone:
            waiter.outcome.set_exception(self._queue_full(waiter.line))

    def _withdraw(self, waiter: Waiter) -> None:
        """Undo a wait that was cancelled, perhaps in the very moment in which its place was granted."""
        if waiter.outcome.cancelled():
            self._lines.leave(waiter)
            self._tell.depth(self._lines.waiting)
        elif waiter.outcome.exception() is None:
            waiter.outcome.result().release()

    def _grant(self, line: Line, owner: Owner) -> Place:
        place = Place(self, line, owner, asyncio.get_running_loop().time())
        self._places.add(place)
        self._lines.occupy(line)
        self._tell.in_use(len(self._places))
        if self.tenant_limit is not None:
            self._tell.tenant(line.tenant, +1, self.tenant_limit)
        return place

    def take_back(self, place: Place, *, dropped: bool, sample: float | None) -> None:
        """Called by the place that is released."""
        self.learn(sample=sample, dropped=dropped)
        now = asyncio.get_running_loop().time()
        self._pace.released(now - place.since, now)
        self._places.remove(place)
        self._lines.vacate(place.line)
        place.owner = None
        self._tell.in_use(len(self._places))
        if self.tenant_limit is not None:
            self._tell.tenant(place.line.tenant, -1, self.tenant_limit)
        self._hand_out()

    def learn(self, *, sample: float | None, dropped: bool) -> None:
        """Called by a place that has news of the provider."""
        before, now = self._limit.value, asyncio.get_running_loop().time()
        if sample is not None:
            self._samples.add(sample, now)
        self._limit.update(now, sample=sample, dropped=dropped, in_flight=len(self._places))
        if self._limit.value != before:
            self._limit_moved()

    def _limit_moved(self) -> None:
        self._tell.limit(self._limit.value)
        self._hand_out()

    def _hand_out(self) -> None:
        """Grant what is free to those whose turn it is."""
        while self._free and (waiter := self._lines.next()) is not None:
            waiter.outcome.set_result(self._grant(waiter.line, waiter.owner))
        self._tell.depth(self._lines.waiting)
