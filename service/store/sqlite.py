"""SQLite on the hot path: one thread that writes, one that reads, plain `sqlite3` (0.07 ms of CPU for a turn).

SQLite has one writer at a time, so the writes of several turns share a transaction (group commit), each in a savepoint
of its own: a write that fails takes no neighbour with it. A batch is answered with one wake-up of the event loop.
Statements are spared where they can be: each hands the interpreter's lock to the event loop's thread and back.
"""

from __future__ import annotations

import asyncio
import queue
import sqlite3
import threading
from typing import TYPE_CHECKING, Any, TypeVar

from service.errors import PersistFailed
from service.runtime.world import real_world
from service.store.driver import EXECUTION_LIMIT, Job

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from service.store.statements import Operation

T = TypeVar("T")

READ = "BEGIN"  # one snapshot for the batch, taken after all of it was handed in
WRITE = "BEGIN IMMEDIATE"  # the lock first: what waits for another process can still be withdrawn

MAX_WAITING = 2_000  # operations for one thread: at 5,000 a second, less than half a second of work
MAX_BATCH = 128
PATIENCE = 5.0  # seconds until an operation is executed: only a safety net, the caller's budget is shorter
STAY = {READ: 0.0, WRITE: EXECUTION_LIMIT}  # whether a read was finished is of no interest to who gave up
LOCK_WAIT = 2.0  # seconds for another process to give the lock back
CLOSE_LIMIT = 5.0  # seconds


def connect(path: Path | str, now: Callable[[], float] | None = None) -> sqlite3.Connection:
    """Open a connection whose transactions are ours to begin and end, usable from one thread at a time.

    Args:
        path: the file.
        now: the database's clock, in Unix seconds; the machine's, which all its processes share, by default.
    """
    db = sqlite3.connect(path, timeout=LOCK_WAIT, isolation_level=None, check_same_thread=False)
    # NORMAL in WAL: a power cut may take the last commits, never consistency; a crash of the process takes nothing.
    db.execute("PRAGMA synchronous = NORMAL")
    db.execute("PRAGMA foreign_keys = ON")
    db.create_function("database_now", 0, now or real_world().now)
    return db


def transact(db: sqlite3.Connection, begin: str, jobs: Sequence[Job[Any]]) -> None:
    """Run those of `jobs` that were not withdrawn in one transaction; each keeps its result or its error."""
    try:
        db.execute(begin)
        run = _execute if len(jobs) == 1 else _execute_apart
        for job in jobs:
            if job.claim():
                run(db, job)
        db.execute("COMMIT")
    except Exception as error:  # noqa: BLE001 -- nothing of the batch happened, whatever the reason: all learn it
        if db.in_transaction:
            db.execute("ROLLBACK")
        for job in jobs:
            job.error = error


def _execute(db: sqlite3.Connection, job: Job[Any]) -> None:
    job.executed = True
    job.result = step_through(db, job.operation)


def _execute_apart(db: sqlite3.Connection, job: Job[Any]) -> None:
    db.execute("SAVEPOINT job")
    try:
        _execute(db, job)
    except Exception as error:  # also a value that cannot be bound: the neighbours are not to blame
        if not db.in_transaction:  # a full disk, for one: SQLite has given up the whole transaction
            raise
        db.execute("ROLLBACK TO job")
        job.error = error
    db.execute("RELEASE job")


def step_through(db: sqlite3.Connection, operation: Operation[T]) -> T:
    """Run each statement of `operation`, and return its result."""
    try:
        statement, values = next(operation)
        while True:
            statement, values = operation.send(db.execute(statement, values).fetchall())
    except StopIteration as end:
        return end.value  # type: ignore[no-any-return]  # StopIteration is not generic
    finally:
        operation.close()


class _Worker(threading.Thread):
    """A thread with one connection and what waits for it."""

    def __init__(self, name: str, db: sqlite3.Connection, begin: str) -> None:
        super().__init__(name=name, daemon=True)
        self._db = db
        self._begin = begin
        self._queue: queue.SimpleQueue[Job[Any] | None] = queue.SimpleQueue()
        self._waiting = 0  # counted in the event loop only
        self._ending = False
        self._loop = asyncio.get_running_loop()
        self._ended = self._loop.create_future()
        self._closed = False

    async def do(self, operation: Operation[T], on_commit: Callable[[T], object] | None = None) -> T:
        if self._closed:
            raise PersistFailed("The state database is closed")
        if self._waiting >= MAX_WAITING:
            raise PersistFailed("Too many operations wait for the state database")
        job = Job(operation, on_commit)
        self._waiting += 1
        self._queue.put(job)
        return await job.outcome(PATIENCE, STAY[self._begin])

    def run(self) -> None:
        try:
            while not self._ending:
                if batch := self._take():
                    transact(self._db, self._begin, batch)
                    self._loop.call_soon_threadsafe(self._settle, batch)
            self._db.close()
            self._loop.call_soon_threadsafe(self._ended.set_result, None)
        except RuntimeError:
            self._db.close()  # the event loop is gone, and with it everybody who could wait for us

    def _take(self) -> list[Job[Any]]:
        """Wait for work, then take all there is, up to the batch's limit."""
        batch = []
        job = self._queue.get()
        while job is not None:
            batch.append(job)
            if len(batch) == MAX_BATCH or self._queue.empty():
                return batch
            job = self._queue.get()
        self._ending = True
        return batch

    def _settle(self, batch: list[Job[Any]]) -> None:
        self._waiting -= len(batch)
        for job in batch:
            job.settle()

    async def close(self) -> None:
        """Let the thread finish what waits; interrupt it if it takes too long."""
        if not self._closed:
            self._closed = True
            self._queue.put(None)
        done, _ = await asyncio.wait((self._ended,), timeout=CLOSE_LIMIT)
        if not done:
            self._db.interrupt()


class SqliteDriver:
    """The driver for a SQLite file. Make it with `open_sqlite`."""

    def __init__(self, reading: sqlite3.Connection, writing: sqlite3.Connection) -> None:
        self._reader = _Worker("forebay-sqlite-read", reading, READ)
        self._writer = _Worker("forebay-sqlite-write", writing, WRITE)
        self._reader.start()
        self._writer.start()

    async def read(self, operation: Operation[T]) -> T:
        """Run an operation in the reading thread."""
        return await self._reader.do(operation)

    async def write(self, operation: Operation[T], on_commit: Callable[[T], object] | None = None) -> T:
        """Run an operation in the writing thread, together with all that wait."""
        return await self._writer.do(operation, on_commit)

    async def close(self) -> None:
        """Finish what waits and end both threads."""
        await asyncio.gather(self._reader.close(), self._writer.close())


async def open_sqlite(path: Path) -> SqliteDriver:
    """Open the migrated database at `path`; raise sqlite3.Error if that fails."""
    reading = await asyncio.to_thread(connect, path)
    await asyncio.to_thread(reading.execute, "PRAGMA query_only = ON")
    return SqliteDriver(reading, await asyncio.to_thread(connect, path))
