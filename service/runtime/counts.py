"""What each tenant has used, in the memory of this process. `quota.py` asks.

The package `limits` was tried for this and not taken: in memory it reads the machine's clock itself, so that it cannot
be simulated, starts a task for each hit that walks over every key, and knows nothing of a reservation that is settled.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING

from service.errors import RateLimited, Reason
from service.runtime.quota import DAY, Allowance, Amounts, Rules

if TYPE_CHECKING:
    from collections.abc import Callable


class MemoryCounts:
    """The counts of one process; they are gone with it.

    The rate is a moving window: the moments of the last requests are kept, so that it holds for any stretch of time,
    and the time at which to come again is known exactly. A refused request counts for nothing.

    Args:
        rules: what each tenant may use.
        now: the wall clock, in Unix seconds: it says which day it is. The rate goes by the event loop's clock.
    """

    def __init__(self, rules: Rules, now: Callable[[], float]) -> None:
        self._rules = rules
        self._now = now
        self._hits: dict[str, deque[float]] = {}
        self._used: dict[str, dict[str, float]] = {}
        self._day = 0

    async def take(self, tenant: str, amounts: Amounts) -> Allowance | None:
        """Count one request and reserve `amounts`, all or nothing; see `Counts.take`."""
        self._turn_the_page()
        used = self._used.setdefault(tenant, dict.fromkeys(self._rules.daily, 0.0))
        moment = asyncio.get_running_loop().time()
        hits = self._recent(tenant, moment)
        if hits is not None and len(hits) == self._rules.requests:
            raise over_rate(hits[0] + self._rules.period - moment)
        for name, most in self._rules.daily.items():
            if used[name] + amounts.get(name, 0.0) > most or used[name] >= most:
                raise over_quota(name, self._now())
        for name in used:
            used[name] += amounts.get(name, 0.0)
        if hits is None or self._rules.requests is None:
            return None
        hits.append(moment)
        return Allowance(self._rules.requests, self._rules.requests - len(hits), hits[0] + self._rules.period - moment)

    def correct(self, tenant: str, day: int, difference: Amounts) -> None:
        """Add to what was reserved on `day`; of a day that is over nothing is kept."""
        self._turn_the_page()
        used = self._used.get(tenant)
        if day == self._day and used is not None:
            for name, amount in difference.items():
                used[name] += amount

    def used(self, tenant: str) -> Amounts:
        """Return what the tenant has used and reserved today."""
        self._turn_the_page()
        return dict(self._used.get(tenant, {}))

    def _turn_the_page(self) -> None:
        today = int(self._now() // DAY)
        if today != self._day:
            self._day = today
            self._used.clear()

    def _recent(self, tenant: str, moment: float) -> deque[float] | None:
        if self._rules.requests is None:
            return None
        hits = self._hits.setdefault(tenant, deque())
        while hits and hits[0] <= moment - self._rules.period:
            hits.popleft()
        return hits


def over_rate(seconds: float) -> RateLimited:
    """Return the error for a rate that allows the next request in `seconds`."""
    return RateLimited("The rate limit of your tenant is reached", reason=Reason.RATE, retry_after=max(1.0, seconds))


def over_quota(name: str, now: float) -> RateLimited:
    """Return the error for a day's amount that is used up until midnight UTC; `now` is in Unix seconds."""
    detail = f"The daily quota of your tenant is used up: {name}"
    return RateLimited(detail, reason=Reason.QUOTA, retry_after=max(1.0, DAY - now % DAY))
