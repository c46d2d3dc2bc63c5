"""The databases that the store's contract is tested over, each with the means to hold it up and to break it."""

from __future__ import annotations

import asyncio
import sqlite3
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any, Protocol

from service.ports import Ending, NewTurn
from service.runtime.world import World
from service.store.inline import InlineDriver
from service.store.migrate import migrate
from service.store.sqlite import open_sqlite
from service.store.store import StateStore
from service.store.values import Process
from telemetry.testing import Recorder, RecordingObserver, recording_observer
from tests.virtual_loop import run

NOW = 1_750_000_000.0
OWNER = ("acme", "ann", "s")  # of the turns of `new_turn`


@dataclass
class Clock:
    """A wall clock that a test sets."""

    now: float = NOW

    def __call__(self) -> float:
        return self.now


class Bench(ABC):
    """A store on the bench: what every database offers to a test."""

    def __init__(self, driver: Any, observing: tuple[RecordingObserver, Recorder]) -> None:
        self.driver = driver
        self.clock = Clock()
        self._observer, self.recorder = observing
        self.store = self.process()

    def process(self, process: Process | None = None) -> StateStore:
        """Return a store as another process on the same database would have it."""
        world = World(now=self.clock, new_id=lambda prefix: prefix, random=Random(0))
        return StateStore(self.driver, world, self._observer, process)

    @abstractmethod
    def stalled(self) -> AbstractAsyncContextManager[None]:
        """Let no write be executed meanwhile."""

    @abstractmethod
    async def break_it(self) -> None:
        """Let every statement on messages fail from here on."""

    @abstractmethod
    async def moment(self, number: int) -> None:
        """Wait a little, a little longer for a higher number: from nothing to longer than a write takes."""

    @contextmanager
    def counting_commits(self) -> Iterator[list[str]]:
        """Collect one item for each transaction that is committed meanwhile."""
        statements: list[str] = []
        commits: list[str] = []
        connection = self.driver._writer._db
        connection.set_trace_callback(statements.append)
        yield commits
        connection.set_trace_callback(None)
        commits += [statement for statement in statements if statement == "COMMIT"]


class InlineBench(Bench):
    @asynccontextmanager
    async def stalled(self) -> AsyncIterator[None]:
        before, self.driver.conditions.wait = self.driver.conditions.wait, 1.0
        yield
        self.driver.conditions.wait = before

    async def break_it(self) -> None:
        self.driver.conditions.down = True

    async def moment(self, number: int) -> None:
        await asyncio.sleep(number * 0.0001)


class SqliteBench(Bench):
    path: Path

    @asynccontextmanager
    async def stalled(self) -> AsyncIterator[None]:
        other = sqlite3.connect(self.path, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        yield
        other.execute("ROLLBACK")
        other.close()

    async def break_it(self) -> None:
        other = sqlite3.connect(self.path, isolation_level=None)
        other.execute("DROP TABLE messages")
        other.close()

    async def moment(self, number: int) -> None:
        for _ in range(number * number):
            await asyncio.sleep(0)


class PostgresBench(Bench):
    @asynccontextmanager
    async def stalled(self) -> AsyncIterator[None]:
        async with AsyncExitStack() as held:
            for _ in range(self.driver._pool.get_max_size()):
                await held.enter_async_context(self.driver._pool.acquire())
            yield

    async def break_it(self) -> None:
        async with self.driver._pool.acquire() as db:
            await db.execute("DROP TABLE messages CASCADE")

    async def moment(self, number: int) -> None:
        for _ in range(number * number):
            await asyncio.sleep(0)


Scenario = Callable[[Any], Coroutine[Any, Any, None]]


class Database(Protocol):
    def run(self, scenario: Scenario) -> None: ...


class Inline:
    """Virtual time."""

    def __init__(self, seed: int = 0) -> None:
        self.seed = seed

    def run(self, scenario: Scenario) -> None:
        observing = recording_observer()

        async def play() -> None:
            driver = InlineDriver(Random(self.seed))
            await scenario(InlineBench(driver, observing))
            await driver.close()

        run(play(), seed=self.seed)


class Sqlite:
    """Threads and a file."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "state.db"
        migrate(f"sqlite:///{self.path}")

    def run(self, scenario: Scenario) -> None:
        observing = recording_observer()

        async def play() -> None:
            driver = await open_sqlite(self.path)
            bench = SqliteBench(driver, observing)
            bench.path = self.path
            try:
                await scenario(bench)
            finally:
                await driver.close()

        asyncio.run(play())


class Postgres:
    """A migrated database of a server, over TCP."""

    def __init__(self, url: str) -> None:
        self.url = url

    def run(self, scenario: Scenario) -> None:
        from service.store.postgres import open_postgres

        observing = recording_observer()

        async def play() -> None:
            driver = await open_postgres(self.url)
            try:
                await scenario(PostgresBench(driver, observing))
            finally:
                await driver.close()

        asyncio.run(play())


def new_turn(
    number: object = 1, *, tenant: str = "acme", user: str = "ann", session: str = "s", **rest: Any
) -> NewTurn:
    """Return a turn whose messages are `q<number>` and `a<number>`."""
    values = {"question": f"question {number}", "model": "sim", "instance_id": "one", "now": NOW} | rest
    return NewTurn(tenant, user, session, f"q{number}", f"a{number}", **values)


def ending(number: object = 1, status: Any = "completed", **rest: Any) -> Ending:
    """Return the end of the turn with this number."""
    return Ending(f"a{number}", status, **({"text": f"answer {number}", "now": NOW + 1} | rest))


def texts(messages: Any) -> list[tuple[str, str]]:
    """Return what messages say, each with its status."""
    return [(message.status, message.text) for message in messages]


async def under_way() -> None:
    """Let every task that was created take its first step, in whatever order."""
    for _ in range(2):
        await asyncio.sleep(0)
