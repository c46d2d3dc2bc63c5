"""The tenants' names, read before anything else is open: the metrics' label sets are made of them, once, at start."""

from __future__ import annotations

import asyncio
from contextlib import closing

from service.store.address import is_postgres, postgres_dsn, sqlite_path
from service.store.sqlite import connect, step_through
from service.store.statements import tenants


def tenants_of(url: str) -> tuple[str, ...]:
    """Return the ids of all tenants in the (migrated) state database at `url`, in order. Blocks: use a thread."""
    if is_postgres(url):
        from service.store.postgres import read_once  # noqa: PLC0415 -- who uses SQLite need not load asyncpg

        return asyncio.run(read_once(postgres_dsn(url), tenants()))
    with closing(connect(sqlite_path(url))) as db:
        return step_through(db, tenants())
