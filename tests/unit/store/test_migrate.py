"""When a database is brought up to date, and what that costs when there is nothing to do."""

import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from service.errors import PersistFailed
from service.store.address import postgres_dsn, sqlite_path
from service.store.migrate import migrate, newest, version_of
from service.store.upgrade import _scripts

ROOT = Path(__file__).parents[3]


@pytest.fixture
def url(tmp_path):
    return f"sqlite:///{tmp_path}/state.db"


def test_the_newest_version_is_where_the_migrations_lead():
    assert [newest()] == _scripts().get_heads()


def test_a_database_that_was_migrated_is_of_the_newest_version(url):
    assert version_of(url) is None
    migrate(url)
    assert version_of(url) == newest()


def test_a_database_that_is_up_to_date_is_opened_without_what_would_migrate_it(url):
    migrate(url)
    code = f"import sys; from service.store import migrate; migrate({url!r}); print('sqlalchemy' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


@pytest.mark.parametrize("wrong", ["sqlite://", "sqlite:///", "sqlite:///:memory:", "mysql://somewhere/x", "state.db"])
def test_the_url_of_something_else_is_refused(wrong):
    with pytest.raises(ValueError, match=r"sqlite:///PATH"):
        migrate(wrong)
    with pytest.raises(ValueError, match=r"postgresql://"):
        postgres_dsn(wrong)


def test_a_path_is_relative_or_absolute_by_its_slashes_and_taken_as_it_is():
    assert sqlite_path("sqlite:///data/state.db") == Path("data/state.db")
    assert sqlite_path("sqlite:////var/lib/a%20b?c.db") == Path("/var/lib/a%20b?c.db")


def test_a_connection_to_a_file_that_others_never_let_go_is_closed(url, monkeypatch):
    def refuse(db, _seconds):
        opened.append(db)
        raise sqlite3.OperationalError("database is locked")

    opened = []
    monkeypatch.setattr("service.store.upgrade.use_wal", refuse)
    with pytest.raises(PersistFailed):
        migrate(url)
    with pytest.raises(sqlite3.ProgrammingError, match="closed"):
        opened[0].execute("SELECT 1")
