"""What each tenant has used, in the memory of this process: the `Quota` of a service that is one process.

The package `limits` was tried for this and not taken: in memory it reads the machine's clock itself, so that it cannot
be simulated, starts a task for each hit that walks over every key, and knows nothing of a reservation that is settled.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING

from service.runtime.quota import DAY, Allowance, Amounts, Charge, Rules, over_daily, over_rate, over_streams

if TYPE_CHECKING:
    from collections.abc import Callable


class MemoryQuota:
    """The counts of one process; they are gone with it.

    The rate is a moving window: the moments of the last requests are kept, so that it holds for any stretch of time,
    and the time at which to come again is known exactly.

    Args:
        rules: what each tenant may use.
        now: the wall clock, in Unix seconds: it says which day it is. The rate goes by the event loop's clock.
    """

    def __init__(self, rules: Rules, now: Callable[[], float]) -> None:
        self._rules = rules
        self._now = now
        self._hits: dict[str, deque[float]] = {}
        self._used: dict[str, dict[str, float]] = {}
        self._streams: dict[tuple[str, str], int] = {}
        self._day = 0

    async def admit(self, tenant: str, user: str, estimate: Amounts | None) -> Charge:
        """Count a request and reserve what it is expected to use; see `Quota.admit`."""
        self._turn_the_page()
        moment = asyncio.get_running_loop().time()
        before = self._allowance(tenant, moment)
        if before is not None and before.remaining <= 0:
            raise over_rate(before)
        used = self._used.setdefault(tenant, dict.fromkeys(self._rules.daily, 0.0))
        metered, estimate = estimate is not None, estimate or {}
        for name, most in self._rules.daily.items() if metered else ():
            if used[name] + estimate.get(name, 0.0) > most or used[name] >= most:
                raise over_daily(name, self._now(), before)
        streams = self._streams.get((tenant, user), 0)
        if self._rules.user_streams is not None and streams >= self._rules.user_streams:
            raise over_streams(before)

        for name in used:
            used[name] += estimate.get(name, 0.0)
        self._streams[tenant, user] = streams + 1
        if before is not None:
            self._hits[tenant].append(moment)
        return Charge(self._allowance(tenant, moment), self._closing(tenant, user, estimate))

    async def left(self, tenant: str) -> Amounts:
        """Return which part of each daily amount a tenant has left; see `Quota.left`."""
        used = self.used(tenant)
        return {name: 1.0 - used.get(name, 0.0) / most for name, most in self._rules.daily.items()}

    def used(self, tenant: str) -> Amounts:
        """Return what the tenant has used and reserved today."""
        self._turn_the_page()
        return dict(self._used.get(tenant, {}))

    def _closing(self, tenant: str, user: str, estimate: Amounts) -> Callable[[Amounts], None]:
        day = self._day

        def close(used: Amounts) -> None:
            self._streams[tenant, user] -= 1
            if not self._streams[tenant, user]:
                del self._streams[tenant, user]
            self._turn_the_page()
            if day == self._day:  # of a day that is over nothing is kept
                counted = self._used[tenant]
                for name in counted:
                    counted[name] += used.get(name, 0.0) - estimate.get(name, 0.0)

        return close

    def _turn_the_page(self) -> None:
        today = int(self._now() // DAY)
        if today != self._day:
            self._day = today
            self._used.clear()

    def _allowance(self, tenant: str, moment: float) -> Allowance | None:
        """Return what is left of the tenant's rate; None if there is none."""
        most, period = self._rules.requests, self._rules.period
        if most is None:
            return None
        hits = self._hits.setdefault(tenant, deque())
        while hits and hits[0] <= moment - period:
            hits.popleft()
        return Allowance(most, most - len(hits), hits[0] + period - moment if hits else period)
