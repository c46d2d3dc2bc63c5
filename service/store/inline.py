"""The state database in virtual time: a real SQLite in memory, run in the event loop, with delays and faults on demand.

For tests and simulation: no thread, no file, one run for one seed. Statements, savepoints, group commit and withdrawal
are those of the SQLite driver; only who waits for whom is played by timers.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections import deque
from collections.abc import Generator
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, TypeVar

from sqlalchemy.dialects import sqlite
from sqlalchemy.schema import CreateIndex, CreateTable, DDLElement

from service.errors import PersistFailed
from service.store.driver import Job
from service.store.schema import METADATA
from service.store.sqlite import MAX_BATCH, MAX_WAITING, PATIENCE, READ, STAY, WRITE, connect, transact

if TYPE_CHECKING:
    from collections.abc import Callable
    from random import Random

    from service.store.statements import Operation

T = TypeVar("T")


@dataclass(slots=True)
class Conditions:
    """How the database behaves; may be changed while it runs.

    Attributes:
        wait: mean seconds until a batch is begun: what waits can be withdrawn.
        commit: mean seconds from the beginning of a batch until its end is known: too late to withdraw.
        failing: the share of operations that fail, each by itself.
        down: nothing can be begun, as with a broken disk.
    """

    wait: float = 0.0003
    commit: float = 0.0009
    failing: float = 0.0
    down: bool = False


class _Worker:
    """What the threads of the SQLite driver do, on timers: take what waits, run it, and answer a little later."""

    def __init__(self, db: sqlite3.Connection, begin: str, conditions: Conditions, random: Random) -> None:
        self._db = db
        self._begin = begin
        self._conditions = conditions
        self._random = random
        self._waiting: deque[Job[Any]] = deque()
        self._idle = asyncio.Event()
        self._idle.set()
        self.closed = False

    async def do(self, operation: Operation[T], on_commit: Callable[[T], object] | None = None) -> T:
        if self.closed:
            raise PersistFailed("The state database is closed")
        if len(self._waiting) >= MAX_WAITING:
            raise PersistFailed("Too many operations wait for the state database")
        if self._random.random() < self._conditions.failing:
            operation = _failing(operation)
        job = Job(operation, on_commit)
        self._waiting.append(job)
        if self._idle.is_set():
            self._idle.clear()
            self._later(self._conditions.wait, self._begin_batch)
        return await job.outcome(PATIENCE, STAY[self._begin])

    def _begin_batch(self) -> None:
        batch = [self._waiting.popleft() for _ in range(min(len(self._waiting), MAX_BATCH))]
        if self._conditions.down:
            for job in batch:
                job.error = sqlite3.OperationalError("disk I/O error")
        else:
            transact(self._db, self._begin, batch)
        self._later(self._conditions.commit, self._end_batch, batch)

    def _end_batch(self, batch: list[Job[Any]]) -> None:
        for job in batch:
            job.settle()
        if self._waiting:
            self._later(self._conditions.wait, self._begin_batch)
        else:
            self._idle.set()

    def _later(self, mean: float, step: Callable[..., None], *values: Any) -> None:
        delay = self._random.expovariate(1 / mean) if mean else 0.0
        asyncio.get_running_loop().call_later(delay, step, *values)

    async def close(self) -> None:
        self.closed = True
        await self._idle.wait()


class InlineDriver:
    """The driver in virtual time, over a new and empty database."""

    def __init__(
        self, random: Random, conditions: Conditions | None = None, now: Callable[[], float] | None = None
    ) -> None:
        self.conditions = conditions or Conditions()
        self._db = connect(":memory:", now or (lambda: asyncio.get_running_loop().time()))
        for statement in _tables():
            self._db.execute(statement)
        self._reader = _Worker(self._db, READ, self.conditions, random)
        self._writer = _Worker(self._db, WRITE, self.conditions, random)

    async def read(self, operation: Operation[T]) -> T:
        """Run an operation after its delay."""
        return await self._reader.do(operation)

    async def write(self, operation: Operation[T], on_commit: Callable[[T], object] | None = None) -> T:
        """Run an operation after its delay, together with all that wait."""
        return await self._writer.do(operation, on_commit)

    async def close(self) -> None:
        """Finish what waits."""
        await self._reader.close()
        await self._writer.close()
        self._db.close()


def _failing(operation: Operation[T]) -> Operation[T]:
    """Run `operation`, and fail at its end, when all its statements have been executed."""

    def fail() -> Generator[Any, Any, T]:
        yield from operation
        raise sqlite3.OperationalError("injected fault")

    return fail()


@cache
def _tables() -> tuple[str, ...]:
    dialect = sqlite.dialect()
    made: list[DDLElement] = []
    for table in METADATA.sorted_tables:
        made += (CreateTable(table), *(CreateIndex(index) for index in table.indexes))
    return tuple(str(statement.compile(dialect=dialect)) for statement in made)
