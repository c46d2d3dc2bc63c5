"""A PostgreSQL server of the tests' own: made when the first test asks for it, and thrown away at the end."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path

import asyncpg

from service.store.migrate import migrate
from tests.support import free_port, require

INSTALL = "apt-get install postgresql"
_OTHERS = """
SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()
"""
TIME_LIMIT = 180  # seconds for each of its programs


class Cluster:
    """A running server on 127.0.0.1."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._numbers = count(1)
        self._template = ""
        self._tables: frozenset[str] = frozenset()
        self._clean: list[str] = []  # databases with every table and nothing in them

    @contextmanager
    def empty_database(self) -> Iterator[str]:
        """Yield the URL of a new database without a table; drop it in the end."""
        name = self._create()
        yield self._url(name)
        self._do("dropdb", "--force", name)

    @contextmanager
    def migrated_database(self) -> Iterator[str]:
        """Yield the URL of a database with every table and nothing in them.

        One that was used before is emptied and used again, unless a test has changed its tables: that takes a
        fifteenth of copying one and dropping it.
        """
        if not self._template:
            self._template = self._create()
            migrate(self._url(self._template))
            self._tables = asyncio.run(_tables_of(self._url(self._template)))
        name = self._clean.pop() if self._clean else self._create("--template", self._template)
        yield self._url(name)
        if asyncio.run(_emptied(self._url(name), self._tables)):
            self._clean.append(name)
        else:
            self._do("dropdb", "--force", name)

    def _create(self, *options: str) -> str:
        name = f"test{next(self._numbers)}"
        self._do("createdb", *options, name)
        return name

    def _do(self, program: str, *arguments: str) -> None:
        _run(require(program, INSTALL), "-h", "127.0.0.1", "-p", str(self._port), "-U", "postgres", *arguments)

    def _url(self, name: str) -> str:
        # With a password and without TLS the client looks for no files, which would block the event loop.
        return f"postgresql://postgres:any@127.0.0.1:{self._port}/{name}?sslmode=disable"


async def _tables_of(url: str) -> frozenset[str]:
    db = await asyncpg.connect(url)
    try:
        found = await db.fetch("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
    finally:
        await db.close()
    return frozenset(row[0] for row in found) - {"alembic_version"}


async def _emptied(url: str, tables: frozenset[str]) -> bool:
    """End whatever is connected to a database and empty its tables; return False if these are not `tables`."""
    if await _tables_of(url) != tables:
        return False
    db = await asyncpg.connect(url)
    try:
        await db.execute(_OTHERS)
        await db.execute(f"TRUNCATE {', '.join(sorted(tables))} RESTART IDENTITY CASCADE")
    finally:
        await db.close()
    return True


@contextmanager
def running_cluster() -> Iterator[Cluster]:
    """Run a server; skip the test that asks for it if PostgreSQL or its driver is not there."""
    initdb, pg_ctl = require("initdb", INSTALL), require("pg_ctl", INSTALL)
    folder = Path(tempfile.mkdtemp(prefix="forebay-postgres-"))  # not in tmp_path, where only root may look
    data, port = str(folder / "data"), free_port()
    if os.geteuid() == 0:
        shutil.chown(folder, "postgres")
    options = f"-p {port} -c listen_addresses=127.0.0.1 -c unix_socket_directories='' -c fsync=off"
    try:
        _run(initdb, "-D", data, "-U", "postgres", "--auth=trust", "--encoding=UTF8", "--no-sync", as_postgres=True)
        log = str(folder / "log")
        _run(pg_ctl, "start", "-D", data, "-w", "-s", "-l", log, "-o", options, as_postgres=True)
        try:
            yield Cluster(port)
        finally:
            _run(pg_ctl, "stop", "-D", data, "-s", "-m", "immediate", as_postgres=True)
    finally:
        shutil.rmtree(folder)


def _run(*command: str, as_postgres: bool = False) -> None:
    # The server refuses to run as root.
    before = ("runuser", "-u", "postgres", "--") if as_postgres and os.geteuid() == 0 else ()
    subprocess.run([*before, *command], check=True, timeout=TIME_LIMIT, stdout=subprocess.DEVNULL, cwd="/")
