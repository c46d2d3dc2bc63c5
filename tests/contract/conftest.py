"""Servers and databases that several files of contract tests share, each started when the first test asks for it."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.contract.cluster import Cluster, running_cluster
from tests.contract.stores import Database, Inline, Postgres, Sqlite
from tests.contract.temporal_server import TemporalServer


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """A PostgreSQL server."""
    with running_cluster() as server:
        yield server


@pytest.fixture(scope="session")
def temporal(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TemporalServer]:
    """A Temporal server."""
    with TemporalServer(tmp_path_factory.mktemp("temporal")) as server:
        yield server


@pytest.fixture(params=["inline", "sqlite", "postgres"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    """Each state database in turn."""
    match request.param:
        case "inline":
            yield Inline()
        case "sqlite":
            yield Sqlite(tmp_path)
        case "postgres":
            with request.getfixturevalue("cluster").migrated_database() as url:
                yield Postgres(url)
