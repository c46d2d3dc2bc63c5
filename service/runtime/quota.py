"""How much over time: requests in a period, amounts of anything by the day, streams of one user at once.

A gate bounds what runs at one moment; this bounds what a tenant uses up. Whoever decides at the door calls `admit`
before anything is spent on a request, and whoever ends the request calls `settle` with what it really used. What has
been counted is kept by a `Counts`, such as `counts.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from service.errors import RateLimited, Reason

if TYPE_CHECKING:
    from collections.abc import Callable

DAY = 86_400.0  # seconds; a day begins at midnight UTC

Amounts = Mapping[str, float]  # by name of what is metered, such as tokens or cost


@dataclass(frozen=True, slots=True)
class Rules:
    """What each tenant may use. None, or a name that is not there: no limit.

    Attributes:
        requests: how many in any stretch of `period` seconds.
        daily: the most of each metered thing in a day.
        user_streams: how many requests of one user may run at once, in this process.
    """

    requests: int | None = None
    period: float = 60.0
    daily: Amounts = field(default_factory=dict)
    user_streams: int | None = None

    def share(self, processes: int) -> Rules:
        """Return what is left for each of `processes` that cannot see one another: at least one request a period."""
        return Rules(
            requests=None if self.requests is None else max(1, self.requests // processes),
            period=self.period,
            daily={name: most / processes for name, most in self.daily.items()},
            user_streams=self.user_streams,
        )


@dataclass(frozen=True, slots=True)
class Allowance:
    """What is left of a tenant's rate: for the client to see before it is refused. `reset` is in seconds from now."""

    limit: int
    remaining: int
    reset: float

    def headers(self) -> dict[str, str]:
        """Return the usual `X-RateLimit-*` headers."""
        return {
            "X-RateLimit-Limit": str(self.limit),
            "X-RateLimit-Remaining": str(self.remaining),
            "X-RateLimit-Reset": str(int(-(-self.reset // 1))),
        }


class Counts(Protocol):
    """Who has used how much."""

    async def take(self, tenant: str, amounts: Amounts) -> Allowance | None:
        """Count one request and reserve `amounts`, all or nothing; return what is left of the rate, if there is one.

        Raises:
            RateLimited: the rate (reason `rate`) or a day's amount (`quota`) is used up; `retry_after` says until when.
        """
        ...

    def correct(self, tenant: str, day: int, difference: Amounts) -> None:
        """Add to what was reserved on `day`, counted from 1970: negative where less was used. Never waits."""
        ...


class Charge:
    """What one request has reserved. `settle` ends it, exactly once, however the request ended."""

    __slots__ = ("_close", "allowance", "reserved")

    def __init__(self, reserved: Amounts, allowance: Allowance | None, close: Callable[[Amounts], None]) -> None:
        self.reserved = reserved
        self.allowance = allowance
        self._close: Callable[[Amounts], None] | None = close

    def settle(self, used: Amounts) -> None:
        """Replace what was reserved by what was `used`. A second call does nothing; it never waits."""
        close, self._close = self._close, None
        if close is not None:
            close(used)


class Quota:
    """Admits requests by `rules`.

    Args:
        rules: what each tenant may use.
        counts: who has used how much.
        now: the wall clock, in Unix seconds: it says which day it is.
    """

    def __init__(self, rules: Rules, counts: Counts, now: Callable[[], float]) -> None:
        self._rules = rules
        self._counts = counts
        self._now = now
        self._streams: dict[tuple[str, str], int] = {}

    async def admit(self, tenant: str, user: str, estimate: Amounts) -> Charge:
        """Count a request and reserve what it is expected to use.

        Raises:
            RateLimited: reason `rate` or `quota`.
        """
        who = (tenant, user)
        self._enter(who)
        day = int(self._now() // DAY)
        try:
            allowance = await self._counts.take(tenant, estimate)
        except BaseException:
            self._leave(who)
            raise

        def close(used: Amounts) -> None:
            self._leave(who)
            difference = {name: used.get(name, 0.0) - estimate.get(name, 0.0) for name in self._rules.daily}
            self._counts.correct(tenant, day, difference)

        return Charge(estimate, allowance, close)

    def _enter(self, who: tuple[str, str]) -> None:
        most, now = self._rules.user_streams, self._streams.get(who, 0)
        if most is not None and now >= most:
            raise RateLimited("Too many of your requests run at once", reason=Reason.QUOTA, retry_after=1.0)
        self._streams[who] = now + 1

    def _leave(self, who: tuple[str, str]) -> None:
        self._streams[who] -= 1
        if not self._streams[who]:
            del self._streams[who]
