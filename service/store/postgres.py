"""PostgreSQL behind the same door: one transaction for each write, on a pool of asyncpg connections.

Group commit is PostgreSQL's own business. Each operation runs in a task of ours that nobody cancels: asyncpg would
cancel the statement on the server, and whether a commit had happened could not be told.
"""

from __future__ import annotations

import asyncio
from functools import cache
from itertools import count
from typing import TYPE_CHECKING, Any, TypeVar

import asyncpg  # type: ignore[import-untyped]  # it ships no types

from service.errors import PersistFailed
from service.store.driver import EXECUTION_LIMIT, Job

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from service.store.statements import Operation

T = TypeVar("T")

CONNECTIONS = 10
MAX_WAITING = 2_000  # operations, those that are executed included
PATIENCE = 5.0  # seconds for a connection, and for one statement: the caller's budget is shorter
CLOSE_LIMIT = 5.0  # seconds


class PostgresDriver:
    """The driver for PostgreSQL. Make it with `open_postgres`.

    If the connection breaks while it waits for the answer to a COMMIT, the write counts as failed although it may have
    happened: no commit is told, and the next compare-and-set finds out.
    """

    def __init__(self, pool: Any) -> None:
        self._pool = pool
        self._running: set[asyncio.Task[None]] = set()
        self._closed = False

    async def read(self, operation: Operation[T]) -> T:
        """Run an operation of one statement: it needs no transaction of its own."""
        return await self._do(Job(operation), self._read, stay=0.0)

    async def write(self, operation: Operation[T], on_commit: Callable[[T], object] | None = None) -> T:
        """Run an operation in a transaction."""
        return await self._do(Job(operation, on_commit), self._write, stay=EXECUTION_LIMIT)

    async def close(self) -> None:
        """Finish what waits and close the connections; cut them off if that takes too long."""
        self._closed = True
        if self._running:
            await asyncio.wait(self._running, timeout=CLOSE_LIMIT)
        try:
            async with asyncio.timeout(CLOSE_LIMIT):
                await self._pool.close()
        except TimeoutError:
            self._pool.terminate()

    async def _do(self, job: Job[T], execute: Callable[[Any, Job[T]], Any], stay: float) -> T:
        if self._closed:
            raise PersistFailed("The state database is closed")
        if len(self._running) >= MAX_WAITING:
            raise PersistFailed("Too many operations wait for the state database")
        task = asyncio.create_task(self._run(job, execute))
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        return await job.outcome(PATIENCE, stay)

    async def _run(self, job: Job[Any], execute: Callable[[Any, Job[Any]], Any]) -> None:
        try:
            async with self._pool.acquire(timeout=PATIENCE) as db:
                if job.claim():
                    await execute(db, job)
        except Exception as error:  # noqa: BLE001 -- whoever waits for the job raises it
            job.error = error
        job.settle()

    async def _read(self, db: Any, job: Job[Any]) -> None:
        job.result = await _step_through(db, job.operation)
        job.executed = True

    async def _write(self, db: Any, job: Job[Any]) -> None:
        async with db.transaction():
            job.result = await _step_through(db, job.operation)
        job.executed = True


async def open_postgres(dsn: str) -> PostgresDriver:
    """Open the migrated database at `dsn` (`postgresql://…`); raise OSError or asyncpg's errors if that fails."""
    pool = await asyncpg.create_pool(
        dsn,
        # All at the start, and kept: opening one reads certificates and password files, which blocks the event loop.
        min_size=CONNECTIONS,
        max_size=CONNECTIONS,
        max_inactive_connection_lifetime=0,
        command_timeout=PATIENCE,
        timeout=PATIENCE,
        reset=_keep,
    )
    return PostgresDriver(pool)


async def read_once(dsn: str, operation: Operation[T]) -> T:
    """Run an operation that changes nothing, on a connection of its own."""
    db = await asyncpg.connect(dsn, timeout=PATIENCE, command_timeout=PATIENCE)
    try:
        return await _step_through(db, operation)
    finally:
        await db.close(timeout=CLOSE_LIMIT)


async def connect(dsn: str) -> Any:
    """Return one asyncpg connection to `dsn`, as SQLAlchemy takes it: for migrations."""
    return await asyncpg.connect(dsn)


async def _keep(_: Any) -> None:
    """Reset nothing when a connection goes back: no statement of ours leaves a trace, and it is a round trip less."""


async def _step_through(db: Any, operation: Operation[T]) -> T:
    try:
        statement, values = next(operation)
        while True:
            rows = await db.fetch(_numbered(statement), *_storable(values))
            statement, values = operation.send(rows)
    except StopIteration as end:
        return end.value  # type: ignore[no-any-return]  # StopIteration is not generic
    finally:
        operation.close()


@cache
def _numbered(statement: str) -> str:
    """Return the statement with `$1, $2, …` for its `?`s; none of ours has one within a literal."""
    numbers = count(1)
    first, *rest = statement.split("?")
    return first + "".join(f"${next(numbers)}{part}" for part in rest)


def _storable(values: Sequence[Any]) -> list[Any]:
    """Return the values with U+FFFD for U+0000, the one character that PostgreSQL has no place for."""
    return [value.replace("\0", "\ufffd") if isinstance(value, str) else value for value in values]
