"""Bring a state database to the newest schema: by `forebay migrate`, and by every process before it opens the store.

Safe when several processes begin at once: the first takes the database's own lock, the others wait and find nothing
left to do. A migration happens wholly or not at all.
"""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path

from alembic import command
from alembic.config import Config
from sqlalchemy import URL, Connection, create_engine, event, make_url
from sqlalchemy.pool import NullPool

LOCK_WAIT = 30.0  # seconds for another process to finish its migration


def migrate(url: str) -> None:
    """Create the database's tables or bring them up to date. Blocks: in a coroutine, use a thread.

    Args:
        url: `sqlite:///PATH`.

    Raises:
        sqlalchemy.exc.SQLAlchemyError: the database cannot be reached or changed.
        OSError: the file cannot be made or reached.
        ValueError: the URL is not one of ours.
    """
    _migrate_sqlite(sqlite_path(make_url(url)))


def sqlite_path(url: URL) -> Path:
    """Return the file that a `sqlite:///PATH` means; raise ValueError for anything else."""
    if url.get_backend_name() != "sqlite" or not url.database or url.database == ":memory:":
        raise ValueError("the state database's URL must be sqlite:///PATH")
    return Path(url.database)


def _migrate_sqlite(path: Path) -> None:
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
        _upgrade(connection)


def _upgrade(connection: Connection) -> None:
    config = Config()
    config.set_main_option("script_location", "service.store:migrations")
    config.attributes["connection"] = connection
    command.upgrade(config, "head")
