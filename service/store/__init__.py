"""The state database: what turns, keys and instances leave behind, in SQLite or PostgreSQL. Opened by `open_store`."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from service.store.address import is_postgres, postgres_dsn, sqlite_path
from service.store.migrate import migrate, opening
from service.store.process import this_process
from service.store.sqlite import open_sqlite
from service.store.store import BEAT_EVERY, EXPIRED_AFTER, StateStore

if TYPE_CHECKING:
    from service.runtime.world import World
    from service.store.driver import Driver
    from telemetry.observe import Observer

__all__ = ["BEAT_EVERY", "EXPIRED_AFTER", "StateStore", "migrate", "open_store"]


async def open_store(url: str, world: World, observer: Observer) -> StateStore:
    """Open the migrated state database at `url`, `sqlite:///PATH` or `postgresql://…`; close what is returned.

    Raises:
        PersistFailed: the database cannot be reached or read.
        ValueError: the URL is not one of these.
    """
    with opening(url):
        driver = await _open_driver(url)
    return StateStore(driver, world, observer, await asyncio.to_thread(this_process))


async def _open_driver(url: str) -> Driver:
    if not is_postgres(url):
        return await open_sqlite(sqlite_path(url))
    from service.store.postgres import open_postgres  # noqa: PLC0415 -- who uses SQLite need not load asyncpg

    return await open_postgres(postgres_dsn(url))
