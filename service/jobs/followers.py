"""Who follows the events of jobs in this process: so many at once, and all of them are told when it ends."""

from __future__ import annotations

import asyncio
from contextlib import contextmanager
from typing import TYPE_CHECKING

from service.errors import Overloaded, ShuttingDown

if TYPE_CHECKING:
    from collections.abc import Iterator

MOST = 200  # each looks into the database twice a second


class Followers:
    """A count and a bell."""

    def __init__(self) -> None:
        self._count = 0
        self._closing = asyncio.Event()

    @contextmanager
    def one_more(self) -> Iterator[None]:
        """Follow for as long as the block runs; raise Overloaded or ShuttingDown."""
        if self.closing:
            raise ShuttingDown(retry_after=1.0)
        if self._count >= MOST:
            raise Overloaded("Too many follow the events of jobs", retry_after=5.0)
        self._count += 1
        try:
            yield
        finally:
            self._count -= 1

    @property
    def closing(self) -> bool:
        """Whether this process ends."""
        return self._closing.is_set()

    def close(self) -> None:
        """Let all of them end; they go on elsewhere, after the last event that they have seen."""
        self._closing.set()

    async def wait(self, seconds: float) -> None:
        """Wait so long, or until this process ends."""
        try:
            async with asyncio.timeout(seconds):
                await self._closing.wait()
        except TimeoutError:
            return
