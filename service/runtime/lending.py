"""A few blocking things (a database connection, a child process) lent to one coroutine at a time, each use in a thread.

The index, the reranker and the checking of schemas block, so none of them may run in the event loop. A waiter that is
cancelled leaves at once: the thing is interrupted, and it comes back only when its thread has ended. What failed or was
interrupted is replaced, so nobody inherits a connection in an unknown state or an interruption that was meant for
another.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Generic, Protocol, TypeVar

from service.errors import ForebayError

CLOSING_SECONDS = 2.0
"""How long `close` waits for uses that were interrupted: both a query and a process end within milliseconds."""


class Lendable(Protocol):
    """What can be lent."""

    def interrupt(self) -> None:
        """End what runs in it now. Called from the event loop while a thread uses it; must not block."""

    def close(self) -> None:
        """Free it. Called in a thread."""


L = TypeVar("L", bound=Lendable)
R = TypeVar("R")


class _Slot(Generic[L]):
    """A place for one thing: empty until first used, and after a replacement that failed."""

    thing: L | None = None
    left: bool = False  # whoever uses it now has left


class Lending(Generic[L]):
    """At most `size` things, opened by `open_one`, which runs in a thread.

    Args:
        open_one: opens one.
        size: how many there may be.
        name: of the threads.
        refusal: the error for whoever comes when everything is closed.
    """

    def __init__(self, open_one: Callable[[], L], *, size: int, name: str, refusal: type[ForebayError]) -> None:
        self.size = size
        self._open_one = open_one
        self._refusal = refusal
        self._closed = False
        self._slots = [_Slot[L]() for _ in range(size)]
        self._idle: asyncio.Queue[_Slot[L]] = asyncio.Queue()
        for slot in self._slots:
            self._idle.put_nowait(slot)
        self._threads = ThreadPoolExecutor(size, thread_name_prefix=name)

    async def use(self, work: Callable[[L], R]) -> R:
        """Return `work(thing)`, done in a thread; wait for a thing that is free.

        Raises:
            ForebayError: everything is closed.
            Exception: whatever `work` or the opening raised; the thing is replaced.
        """
        slot = await self._idle.get()
        if self._closed:
            self._idle.put_nowait(slot)  # for the next who waits
            raise self._refusal
        slot.left = False
        job = asyncio.get_running_loop().run_in_executor(self._threads, self._work, slot, work)
        try:
            result = await asyncio.shield(job)
        except BaseException:
            _interrupt(slot)
            job.add_done_callback(lambda done: self._replace(slot, done))
            raise
        self._idle.put_nowait(slot)
        return result

    async def open(self) -> None:
        """Open them all, so that nobody has to wait for it later; raise what the opening raises."""
        await asyncio.gather(*(self.use(lambda _: None) for _ in self._slots))

    async def close(self) -> None:
        """Interrupt what runs, wait for it (bounded) and close everything. Nothing can be lent afterwards."""
        if self._closed:
            return
        self._closed = True
        for slot in self._slots:
            _interrupt(slot)
        try:
            async with asyncio.timeout(CLOSING_SECONDS):
                for _ in self._slots:
                    slot = await self._idle.get()
                    await asyncio.get_running_loop().run_in_executor(self._threads, _close, slot)
        except TimeoutError:
            pass  # a thing that cannot be interrupted is left to the end of the process
        finally:
            self._threads.shutdown(wait=False, cancel_futures=True)
            self._idle.put_nowait(_Slot())  # whoever still waits is told

    def _work(self, slot: _Slot[L], work: Callable[[L], R]) -> R:
        """Run in a thread."""
        if slot.thing is None:
            slot.thing = self._open_one()
        if slot.left:  # while it was being opened there was nothing to interrupt
            raise self._refusal
        return work(slot.thing)

    def _replace(self, slot: _Slot[L], done: asyncio.Future[R]) -> None:
        if not done.cancelled():
            done.exception()  # its waiter may have left: seen here, or asyncio reports it as never retrieved
        if self._closed:
            self._idle.put_nowait(slot)
            return
        renewal = asyncio.get_running_loop().run_in_executor(self._threads, _renew, slot, self._open_one)
        renewal.add_done_callback(lambda _: self._idle.put_nowait(slot))


def _interrupt(slot: _Slot[L]) -> None:
    slot.left = True
    if slot.thing is not None:
        slot.thing.interrupt()


# --- in a thread --------------------------------------------------------------------------------------------------


def _renew(slot: _Slot[L], open_one: Callable[[], L]) -> None:
    with suppress(Exception):  # the next user tries again, and gets the reason
        _close(slot)
        slot.thing = open_one()


def _close(slot: _Slot[L]) -> None:
    thing, slot.thing = slot.thing, None
    if thing is not None:
        thing.close()
