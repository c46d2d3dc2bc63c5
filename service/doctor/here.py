"""What this process can see by itself: folder, databases, policies, secrets. All of it blocks, and raises Fault."""

from __future__ import annotations

import os
import sqlite3
import tempfile
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from service.equipment import names_of
from service.errors import PersistFailed
from service.policy.loading import PolicyError
from service.policy.loading import load as load_policies
from service.ports import Scope
from service.retrieval.index import Index
from service.routing import key_of
from service.settings import read_secret
from service.settings_errors import SettingsError
from service.store import migrate
from service.store.tenants import tenants_of
from service.translate import api_options

if TYPE_CHECKING:
    from service.settings import Settings

Environ = Mapping[str, str]


class Fault(Exception):
    """What is wrong, and what to do about it."""

    def __init__(self, says: str, todo: str) -> None:
        super().__init__(f"{says}: {todo}")
        self.says, self.todo = says, todo


def secrets(settings: Settings, environ: Environ) -> str:
    """Read every secret that the settings name."""
    try:
        api_options(settings, environ)
        keys = [bool(key_of(row, environ)) for row in settings.providers]
        read_secret(settings.limits.redis_url_env, settings.limits.redis_url_file, environ)
    except SettingsError as error:
        raise Fault(f"a secret cannot be read ({error})", "let the file be read by whoever runs this") from None
    return f"{sum(keys)} of {len(keys)} providers have a key"


def data_folder(settings: Settings) -> str:
    """See whether the data folder can be written to."""
    folder = settings.data_folder
    there = next(place for place in (folder, *folder.absolute().parents) if place.exists())
    todo = "choose another with --data-dir, or give this user the right to write there"
    if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
        raise Fault(f"{folder} cannot be written to", todo)
    if there != folder:
        return f"{folder}, made at the first start"
    try:
        with tempfile.TemporaryFile(dir=folder):
            return str(folder)
    except OSError as error:
        raise Fault(f"{folder} cannot be written to ({error.strerror})", todo) from None


def state(settings: Settings) -> str:
    """Read the tenants from the state database; it is not made, nor migrated."""
    url = settings.database_url
    path = Path(urlsplit(url).path[1:]) if settings.uses_sqlite else None
    if path and not path.exists():
        return f"SQLite, {path}, made at the first start"
    try:
        tenants = len(tenants_of(url))
    except Exception as error:  # noqa: BLE001  (of two drivers; the text may hold the password)
        todo = "look whether it runs and at [state] url; if it was never used, run `forebay migrate`"
        raise Fault(f"cannot be read ({type(error).__name__})", todo) from None
    return f"{f'SQLite, {path}' if path else 'PostgreSQL'}, {tenants} tenant{'s' * (tenants != 1)}"


def migrated(settings: Settings) -> None:
    """Make the state database, or bring it up to date."""
    try:
        migrate(settings.database_url)
    except (PersistFailed, ValueError) as error:  # of two drivers; the text may hold the password
        says = f"the state database cannot be opened ({type(error.__cause__ or error).__name__})"
        raise Fault(says, "look whether it runs, and at [state] url") from None


def index(settings: Settings) -> str:
    """Search the index for nothing of anybody."""
    path = settings.data_folder / "index.db"
    if not path.exists():
        return f"{path}, made at the first start"
    try:
        with closing(Index.open(path, read_only=True)) as index:
            index.search("doctor", Scope("", frozenset()), 1)
    except sqlite3.Error as error:
        todo = "stop the service, move the file away and ingest again"
        raise Fault(f"{path} cannot be searched ({type(error).__name__})", todo) from None
    return str(path)


def tools(settings: Settings) -> None:
    """See whether each name stands for one tool, and those that have limits for one at all: others limit nothing."""
    known = names_of(settings)
    for index, name in enumerate(known):
        if name in known[:index]:
            raise Fault(f"[[mcp]]: a tool that ships is called {name} too", "take it from that server's tools")
    for name in settings.tools:
        if name not in known:
            raise Fault(f"[tools.{name}]: there is no such tool", f"the tools are {', '.join(known)}")


def policies(settings: Settings) -> str:
    """Parse and validate the policies."""
    path = settings.policy.path
    try:
        load_policies(Path(path) if path else None)
    except PolicyError as error:
        raise Fault(str(error), "correct it: without policies everything would be denied") from None
    return path or "those that ship"
