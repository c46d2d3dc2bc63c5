"""What only a server can show: connections that break, addresses where nobody is, migrations from several processes."""

import asyncio
import subprocess
import sys

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy.ext.asyncio import create_async_engine

from service.errors import PersistFailed
from service.ports import Begun
from service.runtime.world import real_world
from service.store import migrate, open_store
from service.store.schema import METADATA
from service.store.tenants import tenants_of
from telemetry.catalogue import LOG_STATE_FAILED
from telemetry.testing import recording_observer
from tests.contract.stores import PostgresBench, ending, new_turn
from tests.support import PATIENCE

MIGRATING = "import sys; from service.store import migrate; migrate(sys.argv[1])"


@pytest.fixture
def url(cluster):
    with cluster.migrated_database() as url:
        yield url


def test_processes_that_migrate_at_the_same_moment_all_succeed(cluster):
    with cluster.empty_database() as url:
        processes = [subprocess.Popen([sys.executable, "-c", MIGRATING, url]) for _ in range(3)]
        assert [process.wait(timeout=PATIENCE) for process in processes] == [0, 0, 0]
        migrate(url)
        assert differences(url) == []


def test_a_connection_that_breaks_fails_what_it_did_and_the_next_is_new(url):
    observer, recorder = recording_observer()

    async def scenario():
        store = await open_store(url, real_world(), observer)
        await store.begin_turn(new_turn())
        killer = store._access._driver._pool
        async with killer.acquire() as db:
            await db.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid()")
        results = await asyncio.gather(
            *(store.begin_turn(new_turn(n, session="other")) for n in range(2, 22)), return_exceptions=True
        )
        assert {type(result) for result in results} <= {Begun, PersistFailed}
        assert await store.end_turn(ending())
        done = [type(result) for result in results].count(Begun)
        assert len(await store.history("acme", "ann", "other", 100)) == 2 * done
        assert len(recorder.logged(LOG_STATE_FAILED)) == 20 - done
        await store.close()

    asyncio.run(scenario())


def test_the_tenants_are_known_before_the_store_is_open(url):
    observer, _ = recording_observer()

    async def scenario():
        store = await open_store(url, real_world(), observer)
        for tenant in ("beta", "acme"):
            await store.create_key(tenant, "ann", ["analyst"])
        await store.close()

    assert tenants_of(url) == ()
    asyncio.run(scenario())
    assert tenants_of(url) == ("acme", "beta")


def test_where_nobody_listens_opening_fails_without_telling_the_password():
    observer, _ = recording_observer()
    with pytest.raises(PersistFailed) as caught:
        asyncio.run(open_store("postgresql://ann:swordfish@127.0.0.1:1/state?sslmode=disable", real_world(), observer))
    assert "swordfish" not in str(caught.value)


def test_closing_cuts_off_what_does_not_end(url, monkeypatch):
    from service.store.postgres import open_postgres

    monkeypatch.setattr("service.store.postgres.CLOSE_LIMIT", 0.05)
    observing = recording_observer()

    def for_ever():
        yield "SELECT pg_sleep(60)", ()

    async def scenario():
        bench = PostgresBench(await open_postgres(url), observing)
        running = asyncio.create_task(bench.driver.write(for_ever()))
        await asyncio.sleep(0)
        await bench.store.close()
        results = await asyncio.gather(running, return_exceptions=True)
        assert isinstance(results[0], Exception)

    asyncio.run(scenario())


def differences(url):
    async def compare():
        engine = create_async_engine(url.replace("postgresql://", "postgresql+asyncpg://").replace("sslmode", "ssl"))
        async with engine.connect() as connection:
            found = await connection.run_sync(
                lambda db: compare_metadata(MigrationContext.configure(db, opts={"compare_type": True}), METADATA)
            )
        await engine.dispose()
        return found

    return asyncio.run(compare())
