"""Where the state database is: its URL as the drivers take it, read without SQLAlchemy, which only a migration needs.

Called by whatever opens the database.
"""

from __future__ import annotations

from pathlib import Path

_SQLITE, _POSTGRES = "sqlite:///", "postgresql://"


def is_postgres(url: str) -> bool:
    """Whether the database is PostgreSQL; otherwise it is SQLite."""
    return url.startswith(_POSTGRES)


def postgres_dsn(url: str) -> str:
    """Return what libpq and asyncpg understand; the password is in it.

    Raises:
        ValueError: it is not `postgresql://…`.
    """
    if not is_postgres(url):
        raise ValueError("this state database is not postgresql://…")
    return url


def sqlite_path(url: str) -> Path:
    """Return the file that a `sqlite:///PATH` means.

    Raises:
        ValueError: it is anything else.
    """
    path = url.removeprefix(_SQLITE)
    if path in (url, "", ":memory:"):
        raise ValueError("the state database's URL must be sqlite:///PATH or postgresql://…")
    return Path(path)
