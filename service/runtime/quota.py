"""How much over time: requests in a period, amounts of anything by the day, streams of one user at once.

A gate bounds what runs at one moment; this bounds what a tenant uses up. Whoever decides at the door calls `admit`
before anything is spent on a request, and whoever ends the request calls `settle` with what it really used. Who has
used how much is kept in the memory of one process (`counts.py`) or by all processes together (`shared_counts.py`).
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
        user_streams: how many requests of one user may run at once.
    """

    requests: int | None = None
    period: float = 60.0
    daily: Amounts = field(default_factory=dict)
    user_streams: int | None = None

    def __bool__(self) -> bool:
        return self.requests is not None or bool(self.daily) or self.user_streams is not None

    def share(self, processes: int) -> Rules:
        """Return what is left for each of `processes` that cannot see one another: at least one of what is counted."""
        return Rules(
            requests=None if self.requests is None else max(1, self.requests // processes),
            period=self.period,
            daily={name: most / processes for name, most in self.daily.items()},
            user_streams=None if self.user_streams is None else max(1, self.user_streams // processes),
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


class OverLimit(RateLimited):
    """A rate or a quota is used up.

    Attributes:
        allowance: what is left of the rate, if there is one.
        metered: which daily amount it is; "" if it is none.
    """

    def __init__(
        self, detail: str, reason: Reason, retry_after: float, allowance: Allowance | None, metered: str = ""
    ) -> None:
        super().__init__(detail, reason=reason, retry_after=max(1.0, retry_after))
        self.allowance = allowance
        self.metered = metered


class Charge:
    """What one request has reserved. `settle` ends it, exactly once, however the request ended."""

    __slots__ = ("_close", "allowance")

    def __init__(self, allowance: Allowance | None, close: Callable[[Amounts], None]) -> None:
        self.allowance = allowance
        self._close: Callable[[Amounts], None] | None = close

    def settle(self, used: Amounts) -> None:
        """Replace what was reserved by what was `used`. A second call does nothing; it never waits."""
        close, self._close = self._close, None
        if close is not None:
            close(used)


class Quota(Protocol):
    """Admits requests by the rules."""

    async def admit(self, tenant: str, user: str, estimate: Amounts | None) -> Charge:
        """Count a request and reserve what it is expected to use, all or nothing: a refused one counts for nothing.

        Without an estimate it uses nothing that is metered: a day's amount that is used up does not refuse it.

        Raises:
            OverLimit: the rate (reason `rate`), a day's amount or the user's streams (`quota`) are used up;
                `retry_after` says until when.
        """
        ...

    async def left(self, tenant: str) -> Amounts:
        """Return which part of each daily amount a tenant has left: 1.0 for all of it, 0.0 or less for nothing."""
        ...


def over_rate(allowance: Allowance) -> OverLimit:
    """Return the error for a rate that is used up."""
    return OverLimit("The rate limit of your tenant is reached", Reason.RATE, allowance.reset, allowance)


def over_daily(name: str, now: float, allowance: Allowance | None) -> OverLimit:
    """Return the error for a day's amount that is used up until midnight UTC; `now` is in Unix seconds."""
    detail = f"The daily quota of your tenant is used up: {name}"
    return OverLimit(detail, Reason.QUOTA, DAY - now % DAY, allowance, name)


def over_streams(allowance: Allowance | None) -> OverLimit:
    """Return the error for a user who has as many streams as one may have; nobody knows when one of them ends."""
    return OverLimit("Too many of your requests run at once", Reason.QUOTA, 1.0, allowance)
