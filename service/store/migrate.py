"""Bring a state database to the newest schema: by `forebay migrate`, and by every process before it opens the store.

Nearly always there is nothing to do, and one look tells. Only a database that is behind needs SQLAlchemy and Alembic,
which are a fifth of what a start imports (0.3 of 1.5 s): service/store/upgrade.py.
"""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

from service.store.address import is_postgres, postgres_dsn, sqlite_path

if TYPE_CHECKING:
    from service.store.statements import Operation

_SCRIPTS = Path(__file__).with_name("migrations") / "versions"
_VERSION = "SELECT version_num FROM alembic_version"


def migrate(url: str) -> None:
    """Create the database's tables or bring them up to date. Blocks: in a coroutine, use a thread.

    Args:
        url: `sqlite:///PATH` or `postgresql://…`.

    Raises:
        sqlalchemy.exc.SQLAlchemyError: the database cannot be changed.
        OSError: it cannot be made or reached.
        ValueError: the URL is not one of ours.
    """
    if version_of(url) == newest():
        return
    from service.store.upgrade import upgrade  # noqa: PLC0415 -- see above

    upgrade(url)


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
