"""Servers that several files of contract tests share, each started when the first test asks for it."""

from collections.abc import Iterator

import pytest

from tests.contract.cluster import Cluster, running_cluster


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """A PostgreSQL server."""
    with running_cluster() as server:
        yield server
