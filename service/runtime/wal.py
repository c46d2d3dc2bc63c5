"""Switch a SQLite file to write-ahead logging while other processes do the same: for whoever opens one to write it."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable

PAUSE = 0.01  # seconds between two attempts: a switch takes about one


def use_wal(
    db: sqlite3.Connection,
    seconds: float,
    *,
    sleep: Callable[[float], object] = time.sleep,
    clock: Callable[[], float] = time.monotonic,
) -> None:
    """Switch `db`'s file to write-ahead logging, or find that it has it; wait for others that hold the file.

    Blocks up to `seconds`, and once more as long as the connection's own timeout: the last attempt may wait that long.

    The connection's own timeout is not enough: whoever already reads the file and wants to become its writer may be
    refused at once, since two that waited for each other so would wait for ever (sqlite.org/c3ref/busy_handler.html).

    Raises:
        sqlite3.OperationalError: another connection held the file for all that time, or it cannot be written.
    """
    deadline = clock() + seconds
    while True:
        try:
            db.execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or clock() >= deadline:
                raise
            sleep(PAUSE)
        else:
            return
