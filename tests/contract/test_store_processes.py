"""Several processes on one state database: crashes, restarts, migrations at the same moment, for real."""

import asyncio
import os
import sqlite3
import stat
import sys
from contextlib import asynccontextmanager

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import create_engine

from service.runtime.world import real_world
from service.store import migrate, open_store
from service.store.schema import METADATA
from service.store.tenants import tenants_of
from telemetry.testing import recording_observer
from tests.contract.stores import ending, new_turn
from tests.support import PATIENCE, proof_count

SERVING = """
import asyncio, sys
from service.runtime.world import real_world
from service.store import open_store
from telemetry.testing import recording_observer
from tests.contract.stores import new_turn

async def main(url, instance, observer):
    store = await open_store(url, real_world(), observer)
    await store.beat(instance)
    await store.begin_turn(new_turn(instance, session=instance, instance_id=instance))
    print("streaming", flush=True)
    await asyncio.Event().wait()

asyncio.run(main(*sys.argv[1:], recording_observer()[0]))
"""

MIGRATING = "import sys; from service.store import migrate; sys.stdin.readline(); migrate(sys.argv[1])"


@pytest.fixture
def url(tmp_path):
    """The URL of a migrated file."""
    found = f"sqlite:///{tmp_path}/state.db"
    migrate(found)
    return found


@asynccontextmanager
async def child(code, *arguments):
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", code, *arguments, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await asyncio.wait_for(process.communicate(), PATIENCE)


@asynccontextmanager
async def serving(url, instance):
    async with child(SERVING, url, instance) as process:
        assert await asyncio.wait_for(process.stdout.readline(), PATIENCE) == b"streaming\n"
        yield process


async def status(store, instance):
    return (await store.history("acme", "ann", instance, 1))[0].status


def test_after_kill_9_the_dead_process_s_messages_are_interrupted_and_the_living_one_s_are_not(url):
    observer, _ = recording_observer()

    async def scenario():
        world = real_world()
        store = await open_store(url, world, observer)
        async with serving(url, "living"):
            for number in range(proof_count(1, 20)):
                async with serving(url, f"killed{number}") as victim:
                    assert await store.interrupt_orphans(world.now()) == ()
                    victim.kill()
                    await asyncio.wait_for(victim.wait(), PATIENCE)
                    assert await store.interrupt_orphans(world.now()) == (f"akilled{number}",)
                    assert await status(store, f"killed{number}") == "interrupted"
            assert await status(store, "living") == "streaming"
        await store.close()

    asyncio.run(scenario())


def test_a_cancellation_asked_for_in_one_process_is_seen_in_the_other(url):
    observer, _ = recording_observer()

    async def scenario():
        one, two = [await open_store(url, real_world(), observer) for _ in range(2)]
        await one.begin_turn(new_turn(instance_id="one"))
        assert await two.request_cancel("a1")
        assert await one.cancel_requests_for("one") == ("a1",)
        assert await one.end_turn(ending(1, "cancelled"))
        assert not await two.request_cancel("a1")
        await asyncio.gather(one.close(), two.close())

    asyncio.run(scenario())


def test_two_stores_on_one_file_write_at_once_and_lose_nothing(url):
    observer, _ = recording_observer()

    async def scenario():
        stores = [await open_store(url, real_world(), observer) for _ in range(2)]
        await asyncio.gather(*(stores[n % 2].begin_turn(new_turn(n, session=f"s{n % 7}")) for n in range(200)))
        ended = await asyncio.gather(*(stores[n % 3 % 2].end_turn(ending(n)) for n in range(200)))
        assert all(ended)
        found = [await stores[0].history("acme", "ann", f"s{n}", 1000) for n in range(7)]
        assert sum(len(messages) for messages in found) == 400
        await asyncio.gather(*(store.close() for store in stores))

    asyncio.run(scenario())


def test_processes_that_migrate_at_the_same_moment_all_succeed(tmp_path):
    url = f"sqlite:///{tmp_path}/state.db"

    async def one(process):
        await asyncio.wait_for(process.communicate(b"now\n"), PATIENCE)
        return process.returncode

    async def scenario():
        async with child(MIGRATING, url) as a, child(MIGRATING, url) as b, child(MIGRATING, url) as c:
            assert await asyncio.gather(one(a), one(b), one(c)) == [0, 0, 0]

    asyncio.run(scenario())
    assert differences(url) == []


def test_migrating_twice_changes_nothing_and_keeps_what_is_there(tmp_path):
    url = f"sqlite:///{tmp_path}/deep/er/state.db"
    migrate(url)
    db = sqlite3.connect(tmp_path / "deep/er/state.db", isolation_level=None)
    db.execute("INSERT INTO tenants (id, created_at) VALUES ('acme', 1)")
    migrate(url)
    assert db.execute("SELECT id FROM tenants").fetchall() == [("acme",)]
    assert db.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    db.close()


def test_the_migrations_lead_to_exactly_the_tables_that_are_described(tmp_path):
    url = f"sqlite:///{tmp_path}/state.db"
    migrate(url)
    assert differences(url) == []


def test_the_file_is_for_its_owner_alone(tmp_path):
    before = os.umask(0)
    try:
        migrate(f"sqlite:///{tmp_path}/state.db")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "state.db").stat().st_mode) == 0o600


def test_of_a_key_its_tenant_and_its_id_are_on_the_disk_and_the_secret_is_not(tmp_path, url):
    observer, _ = recording_observer()

    async def scenario():
        store = await open_store(url, real_world(), observer)
        key = await store.create_key("acme", "ann", ["analyst"])
        await store.close()
        return key

    key = asyncio.run(scenario())
    assert tenants_of(url) == ("acme",)
    _, key_id, secret = key.split("_")
    written = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    assert key_id.encode() in written
    assert secret.encode() not in written
    assert len(bytes.fromhex(secret)) * 8 >= 128


def differences(url):
    engine = create_engine(url)
    with engine.connect() as connection:
        found = compare_metadata(MigrationContext.configure(connection, opts={"compare_type": True}), METADATA)
    engine.dispose()
    return found
