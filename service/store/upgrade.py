"""Run the migrations that a state database has not seen: for service/store/migrate.py, when one look was not enough.

Safe when several processes begin at once: the first takes the database's own lock, the others wait and find nothing
left to do. A migration happens wholly or not at all.
"""

from __future__ import annotations

import asyncio
import os
import sqlite3
from typing import TYPE_CHECKING, Any

from alembic.config import Config
from alembic.runtime.environment import EnvironmentContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, create_engine, event
from sqlalchemy.pool import NullPool

from service.runtime.wal import use_wal
from service.store.address import is_postgres, postgres_dsn, sqlite_path

if TYPE_CHECKING:
    from pathlib import Path

    from alembic.runtime.migration import MigrationContext

LOCK_WAIT = 30.0  # seconds for another process to finish its migration
_POSTGRES_LOCK = 0x666F7265  # the number of an advisory lock that nobody else takes: "fore"


def upgrade(url: str) -> None:
    """Do what `migrate` says, whether or not there is something to do."""
    if is_postgres(url):
        asyncio.run(_migrate_postgres(postgres_dsn(url), _scripts()))
    else:
        _migrate_sqlite(sqlite_path(url), _scripts())


def _migrate_sqlite(path: Path, scripts: ScriptDirectory) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))  # conversations and hashes of keys: for nobody else to read

    def connect() -> sqlite3.Connection:
        db = sqlite3.connect(path, timeout=LOCK_WAIT, isolation_level=None)
        try:
            use_wal(db, LOCK_WAIT)
        except BaseException:
            db.close()
            raise
        return db

    engine = create_engine("sqlite://", creator=connect, poolclass=NullPool)
    # Before the version is read, so that two processes never see the same old one.
    event.listen(engine, "begin", lambda connection: connection.exec_driver_sql("BEGIN IMMEDIATE"))
    with engine.begin() as connection:
        _upgrade(connection, scripts)


async def _migrate_postgres(dsn: str, scripts: ScriptDirectory) -> None:
    from sqlalchemy.ext.asyncio import create_async_engine  # noqa: PLC0415 -- who uses SQLite needs none of these

    from service.store.postgres import connect  # noqa: PLC0415

    engine = create_async_engine("postgresql+asyncpg://", async_creator=lambda: connect(dsn), poolclass=NullPool)
    async with engine.begin() as connection:
        await connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_POSTGRES_LOCK})")
        await connection.run_sync(_upgrade, scripts)


def _scripts() -> ScriptDirectory:
    config = Config()
    config.set_main_option("script_location", "service.store:migrations")
    scripts = ScriptDirectory.from_config(config)
    scripts.get_heads()  # reads the files now, while no lock is held and no event loop runs
    return scripts


def _upgrade(connection: Connection, scripts: ScriptDirectory) -> None:
    """Run what is missing in the transaction that has begun: `alembic.command.upgrade`, without reading an env.py."""

    def missing(present: Any, _: MigrationContext) -> Any:
        return scripts._upgrade_revs("head", present)  # noqa: SLF001 -- as in alembic.command

    with EnvironmentContext(Config(), scripts, fn=missing) as context:
        context.configure(connection=connection)
        context.run_migrations()
