"""Quotas in the memory of a process, and on a Redis of the test's own."""

import asyncio
import contextlib

import pytest

from service.errors import RateLimited
from service.runtime.counts import MemoryQuota
from service.runtime.outage import Outage
from service.runtime.quota import Rules
from service.runtime.redis_client import connect
from service.runtime.shared_counts import SharedQuota
from service.runtime.world import real_world
from telemetry.testing import recording_observer
from tests.contract.redis_server import RedisServer, until_answering
from tests.support import not_across_midnight

WORLD = real_world()


@contextlib.contextmanager
def running_redis(folder):
    """A Redis that runs in `folder`, with an observer made outside the loop: that reads files."""
    not_across_midnight()
    server = RedisServer(folder)
    server.observer, server.recorder = recording_observer()
    server.start()
    try:
        yield server
    finally:
        server.kill()


@contextlib.asynccontextmanager
async def in_memory(**rules):
    yield MemoryQuota(Rules(**rules), WORLD.now)


@contextlib.asynccontextmanager
async def in_redis(server, *, processes=2, **rules):
    await until_answering(server)
    outage = Outage("limits", server.observer)
    quota = SharedQuota(connect(server.url), Rules(**rules), processes=processes, world=WORLD, outage=outage)
    await quota.round()
    task = asyncio.create_task(quota.run())
    try:
        yield quota
    finally:
        task.cancel()
        await asyncio.wait([task])
        await quota.close()
    assert task.cancelled()


async def refused(quota, tenant="A", user="u", **amounts):
    with pytest.raises(RateLimited) as error:
        await quota.admit(tenant, user, amounts)
    return error.value
