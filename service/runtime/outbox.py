"""The bounded queue between the one who produces events and the one who writes them to the reader.

When it is full, `put` waits: that is the backpressure. Everything that waits is taken at once, so that a burst becomes
one write. The last event has a place of its own: however full the queue is, a stream can always say how it ended.

It runs for every token. An asyncio.Queue would do, at 2.5 times the cost (1.7 against 0.7 µs for a put and its take):
it keeps count of unfinished tasks, and hands events over one by one.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

E = TypeVar("E")
Waiter = asyncio.Future[None]


class Outbox(Generic[E]):
    """At most `bound` events wait, whatever the reader does. One consumer; producers may be several."""

    __slots__ = (
        "_bound", "_closed", "_events", "_last", "_loop", "_nudged", "_reader", "_writers", "drained", "high_water",
        "opened", "straight",
    )  # fmt: skip

    def __init__(self, bound: int) -> None:
        self._bound = bound
        self._events: list[E] = []
        self._closed = False
        self._last: E | None = None
        self._nudged = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._reader: Waiter | None = None
        self._writers: deque[Waiter] = deque()
        self.high_water = 0
        self.opened = False  # whether anything was ever put: a stream has begun
        self.drained = False  # whether the end was taken: `take` has nothing more
        self.straight: Callable[[Sequence[E]], bool] | None = None  # see `put_all`

    def __len__(self) -> int:
        return len(self._events)

    @property
    def full(self) -> bool:
        """Whether `put` would wait."""
        return len(self._events) >= self._bound

    @property
    def room(self) -> int:
        """How many events may be put at once without waiting."""
        return self._bound - len(self._events)

    @property
    def closed(self) -> bool:
        """Whether the end is in: nothing can follow it."""
        return self._closed

    async def put(self, event: E) -> None:
        """Add `event`, waiting while the queue is full: the caller bounds that wait."""
        await self.has_room()
        self.put_nowait(event)

    async def has_room(self) -> None:
        """Wait while the queue is full."""
        while self.full:
            room: Waiter = asyncio.get_running_loop().create_future()
            self._writers.append(room)
            await room  # of one that is cancelled the future is done: it is passed over

    def put_nowait(self, event: E) -> None:
        """Add `event`; raise asyncio.QueueFull when `put` would wait."""
        if not self.put_all((event,)):
            raise asyncio.QueueFull

    def put_all(self, more: Sequence[E]) -> bool:
        """Add `more`, one event after the other; return False, having added none, when there is no `room`.

        While the consumer waits and nothing is before them, `straight` is asked first: if it can deliver them at once,
        here and now, nobody has to be woken (0.86 of the CPU of a stream whose tokens come one by one).
        """
        events = self._events
        depth = len(events) + len(more)
        if depth > self._bound:
            return False
        if not more:
            return True
        reader = self._reader
        if reader is not None and self.straight is not None and not reader.done() and self.straight(more):
            return True
        self.opened = True
        events += more
        if depth > self.high_water:  # noqa: PLR1730  (for every token: a call of max costs four times the comparison)
            self.high_water = depth
        if reader is not None:
            self._reader = None  # once is enough, however much comes before it runs
            if not reader.done():
                reader.set_result(None)
        return True

    def close(self, last: E | None = None) -> None:
        """End the stream with `last`, at once; a second call changes nothing."""
        if self._closed:
            return
        self._closed, self._last = True, last
        self._wake_reader()

    def nudge(self) -> None:
        """Let a reader that waits return with nothing."""
        self._nudged = True
        self._wake_reader()

    async def take(self) -> list[E]:
        """Wait for something, then return everything that waits; [] when nudged, or when the end was taken before."""
        if not (self._events or self._closed or self._nudged):
            if self._loop is None:
                self._loop = asyncio.get_running_loop()  # kept: asking costs a system call in Python 3.11
            reader = self._reader = self._loop.create_future()
            try:
                await reader
            finally:
                self._reader = None
        events, self._events, self._nudged = self._events, [], False
        if self._writers:
            self._wake_writers()
        if self._closed:
            self.drained = True
            if self._last is not None:
                events.append(self._last)
                self._last = None
        return events

    def discard(self) -> None:
        """Throw away what waits, its reader being gone."""
        self._events = []
        self._last = None
        self.drained = self._closed
        self._wake_writers()

    def _wake_writers(self) -> None:
        while self._writers:
            _wake(self._writers.popleft())

    def _wake_reader(self) -> None:
        if self._reader is not None:
            _wake(self._reader)
            self._reader = None


def _wake(waiter: Waiter) -> None:
    if not waiter.done():
        waiter.set_result(None)
