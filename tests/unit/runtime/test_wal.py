"""Write-ahead logging for a file that others open at the same time."""

from __future__ import annotations

import sqlite3
from contextlib import closing

import pytest

from service.runtime.wal import use_wal
from tests.support import PATIENCE


@pytest.fixture
def pair(tmp_path):
    """Two connections to a file without write-ahead logging: somebody's, and ours."""
    path = tmp_path / "new.db"
    with (
        closing(sqlite3.connect(path, isolation_level=None)) as other,
        closing(sqlite3.connect(path, isolation_level=None)) as ours,
    ):
        yield other, ours


def mode(db):
    return db.execute("PRAGMA journal_mode").fetchone()[0]


def test_a_file_that_another_connection_writes_is_switched_as_soon_as_that_is_done(pair):
    other, ours = pair
    other.execute("BEGIN IMMEDIATE")
    pauses = []

    def sleep(seconds):
        pauses.append(seconds)
        if len(pauses) == 3:
            other.execute("COMMIT")

    use_wal(ours, PATIENCE, sleep=sleep)
    assert mode(ours) == "wal"
    assert len(pauses) == 3


def test_a_file_that_another_connection_never_lets_go_is_refused_in_time(pair):
    other, ours = pair
    other.execute("BEGIN IMMEDIATE")
    pauses = []
    with pytest.raises(sqlite3.OperationalError, match="locked"):
        use_wal(ours, 5.0, sleep=pauses.append, clock=lambda: sum(pauses))
    assert sum(pauses) == pytest.approx(5.0, abs=0.02)


def test_an_error_that_no_waiting_mends_is_raised_at_once(tmp_path):
    path = tmp_path / "old.db"
    sqlite3.connect(path).executescript("CREATE TABLE a (b)").connection.close()
    with (
        closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)) as db,
        pytest.raises(sqlite3.OperationalError, match="readonly"),
    ):
        use_wal(db, PATIENCE, sleep=pytest.fail)


def test_a_file_that_has_it_is_left_as_it_is_even_while_another_writes(pair):
    other, ours = pair
    use_wal(other, PATIENCE)
    other.execute("BEGIN IMMEDIATE")
    use_wal(ours, 0.0)
    assert mode(ours) == "wal"
