"""The state database: what turns, keys and instances leave behind, in SQLite or PostgreSQL. Opened by `open_store`."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from service.errors import PersistFailed
from service.store.address import is_postgres, postgres_dsn, sqlite_path
from service.store.migrate import migrate
from service.store.process import this_process
from service.store.sqlite import open_sqlite
from service.store.store import BEAT_EVERY, EXPIRED_AFTER, StateStore

if TYPE_CHECKING:
    from service.runtime.world import World
    from service.store.driver import Driver
    from telemetry.observe import Observer

__all__ = ["BEAT_EVERY", "EXPIRED_AFTER", "StateStore", "migrate", "open_store"]


async def open_store(url: str, world: World, observer: Observer) -> StateStore:
    """Migrate and open the state database at `url`, `sqlite:///PATH` or `postgresql://…`; close what is returned.

    Raises:
        PersistFailed: the database cannot be reached, read or brought up to date.
        ValueError: the URL is not one of these.
    """
    try:
        await asyncio.to_thread(migrate, url)
        driver = await _open_driver(url)
    except ValueError:
        raise
    except Exception as error:
        raise PersistFailed(f"The state database cannot be opened ({type(error).__name__})") from error
    return StateStore(driver, world, observer, await asyncio.to_thread(this_process))


async def _open_driver(url: str) -> Driver:
    if not is_postgres(url):
        return await open_sqlite(sqlite_path(url))
    from service.store.postgres import open_postgres  # noqa: PLC0415 -- who uses SQLite need not load asyncpg

    return await open_postgres(postgres_dsn(url))
