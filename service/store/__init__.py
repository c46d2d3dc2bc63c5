"""The state database: what turns, keys and instances leave behind. SQLite for one machine; `open_store` is the door."""

from __future__ import annotations

import asyncio
import sqlite3
from typing import TYPE_CHECKING

from sqlalchemy import make_url
from sqlalchemy.exc import SQLAlchemyError

from service.errors import PersistFailed
from service.store.migrate import migrate, sqlite_path
from service.store.process import this_process
from service.store.sqlite import open_sqlite
from service.store.store import BEAT_EVERY, EXPIRED_AFTER, StateStore

if TYPE_CHECKING:
    from service.runtime.world import World
    from telemetry.observe import Observer

__all__ = ["BEAT_EVERY", "EXPIRED_AFTER", "StateStore", "migrate", "open_store"]


async def open_store(url: str, world: World, observer: Observer) -> StateStore:
    """Migrate and open the state database at `url` (`sqlite:///PATH`); close what is returned.

    Raises:
        PersistFailed: the database cannot be reached, read or brought up to date.
        ValueError: the URL is not one.
    """
    try:
        await asyncio.to_thread(migrate, url)
        driver = await open_sqlite(sqlite_path(make_url(url)))
    except (SQLAlchemyError, sqlite3.Error, OSError) as error:
        raise PersistFailed(f"The state database cannot be opened ({type(error).__name__})") from error
    return StateStore(driver, world, observer, await asyncio.to_thread(this_process))
