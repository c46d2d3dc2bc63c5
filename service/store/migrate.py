"""Bring a state database to the newest schema: by `forebay migrate`, and by every process before it opens the store.

Safe when several processes begin at once: the first takes the database's own lock, the others wait and find nothing
left to do. A migration happens wholly or not at all.
"""

from __future__ import annotations

import asyncio
import os
import sqlite3
from pathlib import Path
from typing import TYPE_CHECKING, Any

from alembic.config import Config
from alembic.runtime.environment import EnvironmentContext
from alembic.script import ScriptDirectory
from sqlalchemy import URL, Connection, create_engine, event, make_url
from sqlalchemy.pool import NullPool

if TYPE_CHECKING:
    from alembic.runtime.migration import MigrationContext

LOCK_WAIT = 30.0  # seconds for another process to finish its migration
_POSTGRES_LOCK = 0x666F7265  # the number of an advisory lock that nobody else takes: "fore"


def migrate(url: str) -> None:
    """Create the database's tables or bring them up to date. Blocks: in a coroutine, use a thread.

    Args:
        url: `sqlite:///PATH` or `postgresql://…`.

    Raises:
        sqlalchemy.exc.SQLAlchemyError: the database cannot be reached or changed.
        OSError: the file cannot be made or reached.
        ValueError: the URL is not one of ours.
    """
    target = make_url(url)
    if target.get_backend_name() == "postgresql":
        asyncio.run(_migrate_postgres(postgres_dsn(target), _scripts()))
    else:
        _migrate_sqlite(sqlite_path(target), _scripts())


def sqlite_path(url: URL) -> Path:
    """Return the file that a `sqlite:///PATH` means; raise ValueError for anything else."""
    if url.get_backend_name() != "sqlite" or not url.database or url.database == ":memory:":
        raise ValueError("the state database's URL must be sqlite:///PATH or postgresql://…")
    return Path(url.database)


def postgres_dsn(url: URL) -> str:
    """Return what libpq and asyncpg understand; the password is in it."""
    return url.set(drivername="postgresql").render_as_string(hide_password=False)


def _migrate_sqlite(path: Path, scripts: ScriptDirectory) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))  # conversations and hashes of keys: for nobody else to read

    def connect() -> sqlite3.Connection:
        db = sqlite3.connect(path, timeout=LOCK_WAIT, isolation_level=None)
        db.execute("PRAGMA journal_mode = WAL")
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
