"""The bounded queue between the one who produces events and the one who writes them to the reader.

When it is full, `put` waits: that is the backpressure. Everything that waits is taken at once, so that a burst becomes
one write. The last event has a place of its own: however full the queue is, a stream can always say how it ended.
"""

from __future__ import annotations

import asyncio
from typing import Any, Generic, TypeVar

E = TypeVar("E")

_WAKE: Any = object()  # makes a waiting reader look again; only ever put into an empty queue


class Outbox(Generic[E]):
    """At most `bound` events wait, whatever the reader does. One consumer; producers may be several."""

    __slots__ = ("_closed", "_last", "_queue", "high_water", "opened")

    def __init__(self, bound: int) -> None:
        self._queue: asyncio.Queue[E] = asyncio.Queue(bound)
        self._closed = False
        self._last: E | None = None
        self.high_water = 0
        self.opened = False  # whether anything was ever put: a stream has begun

    def __len__(self) -> int:
        return self._queue.qsize()

    @property
    def full(self) -> bool:
        """Whether `put` would wait."""
        return self._queue.full()

    @property
    def closed(self) -> bool:
        """Whether the end is in: nothing can follow it."""
        return self._closed

    async def put(self, event: E) -> None:
        """Add `event`, waiting while the queue is full: the caller bounds that wait."""
        self.opened = True
        if self._queue.full():
            await self._queue.put(event)
        else:
            self._queue.put_nowait(event)
        depth = self._queue.qsize()
        self.high_water = max(self.high_water, depth)

    def put_nowait(self, event: E) -> None:
        """Add `event`; raise asyncio.QueueFull when `put` would wait."""
        self._queue.put_nowait(event)

    def close(self, last: E | None = None) -> None:
        """End the stream with `last`, at once; a second call changes nothing."""
        if self._closed:
            return
        self._closed, self._last = True, last
        self.nudge()

    def nudge(self) -> None:
        """Let a reader that waits return with nothing."""
        if self._queue.empty():
            self._queue.put_nowait(_WAKE)

    async def take(self) -> list[E]:
        """Wait for something, then return everything that waits; [] when nudged, or when the end was taken before."""
        queue = self._queue
        events: list[E] = []
        if not (queue.empty() and self._closed):
            first = await queue.get()
            if first is not _WAKE:
                events.append(first)
            while not queue.empty():
                if (event := queue.get_nowait()) is not _WAKE:
                    events.append(event)
        if self._closed and self._last is not None:
            events.append(self._last)
            self._last = None
        return events

    @property
    def drained(self) -> bool:
        """Whether the end was taken: `take` has nothing more."""
        return self._closed and self._last is None and self._queue.empty()

    def discard(self) -> None:
        """Throw away what waits, its reader being gone."""
        while not self._queue.empty():
            self._queue.get_nowait()
        self._last = None
