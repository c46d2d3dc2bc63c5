"""A timer that cancels its task at a moment that may move: the one clock behind every budget.

`asyncio.timeout` costs a timer for each rescheduling (9 µs, measured); a stream moves its limit with every token. Here
moving the moment later is an assignment: the timer that is armed fires early, sees that there is time left, and is
armed again. The rules of cancellation are those of `asyncio.timeout` (CPython, Lib/asyncio/timeouts.py).
"""

from __future__ import annotations

import asyncio
from math import inf
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType


class Alarm:
    """Cancel the current task at `when` (loop time, seconds); `expired` tells whether that ended the block.

    The block sees CancelledError, which this swallows: ask `expired` afterwards. A cancellation from elsewhere that
    comes at the same time wins, and is raised.
    """

    __slots__ = ("_before", "_handle", "_limit", "_loop", "_rang", "_task", "armed_for", "expired", "when")

    def __init__(self, when: float = inf, limit: Callable[[], float] | None = None) -> None:
        """Ring at `when`; or, where there is a `limit`, at what that says when the timer fires.

        Whoever moves its limit later need not tell; earlier than `armed_for` it must `move`.
        """
        self.when = when
        self._limit = limit
        self.expired = False
        self._rang = False
        self._handle: asyncio.TimerHandle | None = None
        self.armed_for = inf

    def __enter__(self) -> Self:
        self._loop = asyncio.get_running_loop()
        task = asyncio.current_task(self._loop)
        if task is None:
            raise RuntimeError("an Alarm needs a task to cancel")
        self._task = task
        self._before = task.cancelling()
        self._arm()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None
        task = self._task
        del self._task  # an error keeps the frames it came through, and these this alarm: it must not keep its task
        self._limit = None  # nor what it asks, whose alarm this is: the two would keep each other
        if not self._rang:
            return False
        self.expired = task.uncancel() <= self._before and kind is asyncio.CancelledError
        return self.expired

    @property
    def rang(self) -> bool:
        """Whether it has cancelled the block, which may still be ending."""
        return self._rang

    def move(self, when: float) -> None:
        """Ring at `when` instead; `inf` for never."""
        self.when = when
        if when < self.armed_for and not self._rang:
            self._arm()

    def _arm(self) -> None:
        if self._handle is not None:
            self._handle.cancel()
        self.armed_for = self.when
        self._handle = None if self.when == inf else self._loop.call_at(self.when, self._ring)

    def _ring(self) -> None:
        self._handle = None
        if self._limit is not None:
            self.when = self._limit()
        if self._loop.time() < self.when:
            self._arm()
            return
        self._rang = True
        self._task.cancel()
