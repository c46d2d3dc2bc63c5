"""One operation on its way to the database, and who waits for it: the same rules for every driver.

A wait that is cancelled or over its limit withdraws the operation if nobody has claimed it yet, for certain. If it is
being executed, the waiter stays until its end is known. So after a wait it has either happened or not.
"""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

from service.errors import PersistFailed
from service.runtime.shelter import sheltered

if TYPE_CHECKING:
    from collections.abc import Callable

    from service.store.statements import Operation

T = TypeVar("T")

EXECUTION_LIMIT = 1.0  # seconds for an operation that is being executed; it normally takes about a millisecond


class Driver(Protocol):
    """Runs operations. Raises PersistFailed for what it refuses, and the database's own errors: the store maps them."""

    async def read(self, operation: Operation[T]) -> T:
        """Run an operation that changes nothing; it sees every commit that was certain before the call."""
        ...

    async def write(self, operation: Operation[T], on_commit: Callable[[T], object] | None = None) -> T:
        """Run an operation in a transaction; `on_commit` gets its result in the loop once the commit is certain."""
        ...

    async def close(self) -> None:
        """Finish what waits and free everything, within a few seconds."""
        ...


class Job(Generic[T]):
    """An operation that was handed in. Claimed once: by who executes it, or by who gives up waiting for it."""

    __slots__ = ("_claim", "_future", "_loop", "_settled", "error", "executed", "on_commit", "operation", "result")

    def __init__(self, operation: Operation[T], on_commit: Callable[[T], object] | None = None) -> None:
        self.operation = operation
        self.on_commit = on_commit
        self.result: T | None = None
        self.error: Exception | None = None
        self.executed = False
        self._settled = False
        self._claim = threading.Lock()
        self._loop = asyncio.get_running_loop()
        self._future: asyncio.Future[None] = self._loop.create_future()

    def claim(self) -> bool:
        """Take it, from whichever thread; False if the other side was first."""
        return self._claim.acquire(blocking=False)

    def settle(self) -> None:
        """Tell what became of it, in the event loop: the commit first, then the waiter."""
        self._settled = True
        if self.on_commit is not None and self.executed and self.error is None:
            self._tell_commit(self.on_commit)
        if not self._future.done():
            self._future.set_result(None)

    def _tell_commit(self, on_commit: Callable[[Any], object]) -> None:
        try:
            on_commit(self.result)
        except Exception as error:  # noqa: BLE001 -- somebody else's function must not keep the batch from its results
            self._loop.call_exception_handler({"message": "on_commit failed", "exception": error})

    async def outcome(self, patience: float, stay: float = EXECUTION_LIMIT) -> T:
        """Wait until it is executed, and return the result; raise the database's error.

        Args:
            patience: seconds until it is given up.
            stay: seconds that a cancelled waiter stays for the end when it is too late to withdraw; 0 for a read.

        Raises:
            PersistFailed: no answer in time.
        """
        timer = self._loop.call_later(patience, self._give_up)
        try:
            await self._future
        except asyncio.CancelledError:
            if not self._settled and not self.claim() and stay:
                self._future = self._loop.create_future()  # the first one was cancelled together with its waiter
                await sheltered(asyncio.wait((self._future,), timeout=stay))
            raise
        finally:
            timer.cancel()
        if not self._settled:
            raise PersistFailed("The state database did not answer in time")
        if self.error is not None:
            raise self.error
        return self.result  # type: ignore[return-value]  # None only where T is None

    def _give_up(self) -> None:
        self.claim()
        if not self._future.done():
            self._future.set_result(None)
