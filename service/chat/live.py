"""The turns that are alive in this process: what can be cancelled from outside, and what a drain waits for."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from service.chat.turn import Turn
    from service.errors import Cause


class Live:
    """In the order in which they came. Iterating is safe while turns come and go."""

    def __init__(self) -> None:
        self._turns: dict[Turn, None] = {}  # not by id: a replay has the id of the turn that it tells
        self._empty = asyncio.Event()
        self._empty.set()

    def __len__(self) -> int:
        return len(self._turns)

    def __iter__(self) -> Iterator[Turn]:
        return iter(tuple(self._turns))

    def get(self, message_id: str) -> Turn | None:
        """Return the turn that gives this answer, if it is here."""
        return next((turn for turn in self._turns if turn.message_id == message_id and turn.answered is None), None)

    def add(self, turn: Turn) -> None:
        """A turn begins."""
        self._turns[turn] = None
        self._empty.clear()

    def remove(self, turn: Turn) -> None:
        """A turn has ended, its clean-up included."""
        del self._turns[turn]
        if not self._turns:
            self._empty.set()

    async def drain(self, seconds: float, cause: Cause, patience: float) -> int:
        """Let the turns end within `seconds`, then stop them; return how many are left after `patience` more."""
        await self._until_empty(seconds)
        for turn in self:
            turn.cancel(cause)
        await self._until_empty(patience)
        return len(self)

    async def _until_empty(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._empty.wait()
        except TimeoutError:
            return
