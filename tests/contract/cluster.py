"""A PostgreSQL server of the tests' own: made when the first test asks for it, and thrown away at the end."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path

import pytest

from service.store.migrate import migrate
from tests.support import free_port, require

INSTALL = "apt-get install postgresql"
TIME_LIMIT = 180  # seconds for each of its programs


class Cluster:
    """A running server on 127.0.0.1."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._numbers = count(1)
        self._template = ""

    @contextmanager
    def empty_database(self) -> Iterator[str]:
        """Yield the URL of a new database without a table; drop it in the end."""
        name = self._create()
        yield self._url(name)
        self._do("dropdb", "--force", name)

    @contextmanager
    def migrated_database(self) -> Iterator[str]:
        """Yield the URL of a new database with every table, a copy of one that was migrated; drop it in the end."""
        if not self._template:
            self._template = self._create()
            migrate(self._url(self._template))
        name = self._create("--template", self._template)
        yield self._url(name)
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


@contextmanager
def running_cluster() -> Iterator[Cluster]:
    """Run a server; skip the test that asks for it if PostgreSQL or its driver is not there."""
    pytest.importorskip("asyncpg", reason="asyncpg is not installed: pip install asyncpg greenlet")
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
