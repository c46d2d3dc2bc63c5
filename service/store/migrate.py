"""Bring a state database to the newest schema: once by every command that opens the store, before anything else.

Nearly always there is nothing to do, and one look tells. Only a database that is behind needs SQLAlchemy and Alembic,
which are a fifth of what a start imports (0.3 of 1.5 s): service/store/upgrade.py.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from service.errors import PersistFailed
from service.store.address import is_postgres, postgres_dsn, sqlite_path

if TYPE_CHECKING:
    from service.store.statements import Operation

_SCRIPTS = Path(__file__).with_name("migrations") / "versions"
_VERSION = "SELECT version_num FROM alembic_version"


def migrate(url: str) -> None:
    """Create the database's tables or bring them up to date. Blocks, and begins an event loop of its own.

    Args:
        url: `sqlite:///PATH` or `postgresql://…`.

    Raises:
        PersistFailed: the database cannot be made, reached, read or changed.
        ValueError: the URL is not one of ours.
    """
    with opening(url):
        if version_of(url) == newest():
            return
        from service.store.upgrade import upgrade  # noqa: PLC0415 -- see above

        upgrade(url)


@contextmanager
def opening(url: str) -> Iterator[None]:
    """Raise PersistFailed for whatever a driver says of `url` meanwhile: the text may hold the password."""
    if not is_postgres(url):
        sqlite_path(url)  # raises ValueError if it is not one of ours
    try:
        yield
    except Exception as error:
        raise PersistFailed(f"The state database cannot be opened ({type(error).__name__})") from error


def newest() -> str:
    """Return the version to which the migrations lead: the number in the last one's name."""
    return max(path.stem.rpartition("_")[2] for path in _SCRIPTS.glob("*_[0-9]*.py"))


def version_of(url: str) -> str | None:
    """Return the version of the schema in a database; None if there is none yet. Blocks."""
    if is_postgres(url):
        from service.store.postgres import read_once  # noqa: PLC0415 -- who uses SQLite need not load asyncpg

        return asyncio.run(read_once(postgres_dsn(url), _recorded_version()))
    path = sqlite_path(url)
    try:
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as db:
            return next((row[0] for row in db.execute(_VERSION)), None)
    except sqlite3.Error:  # no file, no table, or another process that is making them: whoever upgrades finds out
        return None


def _recorded_version() -> Operation[str | None]:
    ((table,),) = yield "SELECT to_regclass('alembic_version')::text", ()
    rows = (yield _VERSION, ()) if table else ()
    return next((row[0] for row in rows), None)
