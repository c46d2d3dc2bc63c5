"""The tenants' names, read before anything else is open: the metrics' label sets are made of them, once, at start."""

from __future__ import annotations

import sqlite3
from contextlib import closing

from sqlalchemy import make_url

from service.store.migrate import sqlite_path


def tenants_of(url: str) -> tuple[str, ...]:
    """Return the ids of all tenants in the (migrated) state database at `url`, in order. Blocks: use a thread."""
    with closing(sqlite3.connect(sqlite_path(make_url(url)))) as db:
        return tuple(name for (name,) in db.execute("SELECT id FROM tenants ORDER BY id"))
