"""Operations on the state database through any driver, and the border at which a driver's own error ends."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

from service.errors import ForebayError, PersistFailed
from telemetry.catalogue import LOG_STATE_FAILED

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from service.store.driver import Driver
    from service.store.statements import Operation
    from telemetry.observe import Observer

T = TypeVar("T")


class Access:
    """Runs operations; raises PersistFailed, told to `observer`, for whatever the database or its driver says."""

    def __init__(self, driver: Driver, observer: Observer) -> None:
        self._driver = driver
        self._observer = observer

    async def read(self, operation: Operation[T]) -> T:
        """Run an operation that changes nothing."""
        return await self._mapped(operation, self._driver.read(operation))

    async def write(self, operation: Operation[T], on_commit: Callable[[T], object] | None = None) -> T:
        """Run an operation in a transaction; `on_commit` gets its result once the commit is certain."""
        return await self._mapped(operation, self._driver.write(operation, on_commit))

    async def close(self) -> None:
        """Finish what waits and free the database, within a few seconds."""
        await self._driver.close()

    async def _mapped(self, operation: Operation[Any], running: Awaitable[T]) -> T:
        try:
            return await running
        except ForebayError:
            raise
        except Exception as error:  # noqa: BLE001 -- the border: no driver's error, nor the values in it, goes further
            name = getattr(operation, "__name__", "")
            self._observer.log(LOG_STATE_FAILED, operation=name, error_type=type(error).__name__)
            raise PersistFailed from None
