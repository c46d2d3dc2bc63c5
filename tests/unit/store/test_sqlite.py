"""What only threads and files can show: an operation under way, a lock held elsewhere, an end that is bounded."""

import asyncio
import sqlite3
import threading

import pytest

from service.errors import PersistFailed
from service.store.migrate import migrate
from service.store.sqlite import connect, open_sqlite, step_through
from service.store.statements import cancel_requests_for, tenants
from tests.support import PATIENCE

NEW_TENANT = "INSERT INTO tenants (id, created_at) VALUES (?, 1)"


@pytest.fixture
def path(tmp_path):
    migrate(f"sqlite:///{tmp_path}/state.db")
    return tmp_path / "state.db"


def names(path):
    db = connect(path)
    found = step_through(db, tenants())
    db.close()
    return found


def locking(path):
    """Return a connection that holds the lock for writing, as another process would."""
    db = sqlite3.connect(path, isolation_level=None)
    db.execute("BEGIN IMMEDIATE")
    return db


class Held:
    """An operation that stays in the middle of its execution until it is let go."""

    def __init__(self):
        self.loop = asyncio.get_running_loop()
        self.entered = asyncio.Event()
        self.leave = threading.Event()

    def operation(self, name):
        yield NEW_TENANT, (name,)
        self.loop.call_soon_threadsafe(self.entered.set)
        assert self.leave.wait(PATIENCE)
        return name


def test_a_write_that_is_cancelled_under_way_is_waited_for_and_told(path):
    async def scenario():
        driver = await open_sqlite(path)
        held, told = Held(), []
        write = asyncio.create_task(driver.write(held.operation("acme"), told.append))
        await asyncio.wait_for(held.entered.wait(), PATIENCE)
        write.cancel()
        await asyncio.sleep(0)
        assert not write.done()
        held.leave.set()
        await asyncio.wait([write], timeout=PATIENCE)
        assert write.cancelled()
        assert told == ["acme"]
        await driver.close()

    asyncio.run(scenario())
    assert names(path) == ("acme",)


def test_what_waits_behind_a_write_under_way_is_withdrawn_at_once(path):
    async def scenario():
        driver = await open_sqlite(path)
        held, told = Held(), []
        first = asyncio.create_task(driver.write(held.operation("acme")))
        await asyncio.wait_for(held.entered.wait(), PATIENCE)
        second = asyncio.create_task(driver.write(Held().operation("withdrawn"), told.append))
        await asyncio.sleep(0)
        second.cancel()
        await asyncio.wait([second], timeout=PATIENCE)
        assert second.cancelled()
        assert not first.done()
        held.leave.set()
        await asyncio.wait_for(first, PATIENCE)
        await driver.close()
        assert told == []

    asyncio.run(scenario())
    assert names(path) == ("acme",)


def test_the_event_loop_goes_on_while_another_process_holds_the_lock(path, monkeypatch):
    monkeypatch.setattr("service.store.sqlite.LOCK_WAIT", PATIENCE)

    async def scenario():
        driver = await open_sqlite(path)
        other = locking(path)
        held = Held()
        held.leave.set()
        write = asyncio.create_task(driver.write(held.operation("late")))
        assert await driver.read(tenants()) == ()
        assert not write.done()
        other.execute("COMMIT")
        other.close()
        assert await asyncio.wait_for(write, PATIENCE) == "late"
        await driver.close()

    asyncio.run(scenario())


def test_a_lock_that_is_never_given_back_fails_the_write(path, monkeypatch):
    monkeypatch.setattr("service.store.sqlite.LOCK_WAIT", 0.01)

    async def scenario():
        driver = await open_sqlite(path)
        other = locking(path)
        with pytest.raises(sqlite3.OperationalError):
            await driver.write(Held().operation("never"))
        other.execute("COMMIT")
        other.close()
        assert await driver.read(tenants()) == ()
        await driver.close()

    asyncio.run(scenario())


def test_closing_does_not_wait_for_ever(path, monkeypatch):
    monkeypatch.setattr("service.store.sqlite.CLOSE_LIMIT", 0.01)

    async def scenario():
        driver = await open_sqlite(path)
        held = Held()
        write = asyncio.create_task(driver.write(held.operation("slow")))
        await asyncio.wait_for(held.entered.wait(), PATIENCE)
        await driver.close()
        with pytest.raises(PersistFailed):
            await driver.read(tenants())
        held.leave.set()
        await asyncio.wait([write], timeout=PATIENCE)

    asyncio.run(scenario())


def test_the_reading_thread_cannot_write(path):
    async def scenario():
        driver = await open_sqlite(path)
        with pytest.raises(sqlite3.OperationalError, match="readonly"):
            await driver.read(Held().operation("sneaky"))
        await driver.close()

    asyncio.run(scenario())


def test_a_full_disk_in_the_middle_fails_the_whole_batch_and_nothing_of_it_is_told(path):
    async def scenario():
        driver = await open_sqlite(path)
        await driver.write(grow_at_most())
        other = locking(path)
        told = []
        small = asyncio.create_task(driver.write(named("small"), told.append))
        large = asyncio.create_task(driver.write(named("x" * 10_000_000), told.append))
        await asyncio.sleep(0)
        other.execute("COMMIT")
        other.close()
        results = await asyncio.gather(small, large, return_exceptions=True)
        assert isinstance(results[1], sqlite3.OperationalError)
        await driver.close()
        return [result for result in results if isinstance(result, str)], told

    done, told = asyncio.run(scenario())
    assert list(names(path)) == done == told


def named(name):
    yield NEW_TENANT, (name,)
    return name


def grow_at_most():
    yield "PRAGMA max_page_count = 100", ()


def test_the_poll_for_cancellations_begins_at_the_few_requests_not_at_all_that_is_streaming(path):
    statement, values = next(cancel_requests_for("i"))
    db = connect(path)
    first, *_ = db.execute(f"EXPLAIN QUERY PLAN {statement}", values).fetchall()
    db.close()
    assert first[-1].startswith("SCAN cancel_requests")
