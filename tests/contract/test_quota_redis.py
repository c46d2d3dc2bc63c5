"""One quota in Redis for all processes, and life without Redis."""

import asyncio

import pytest

from service.errors import RateLimited, Reason
from service.runtime import shared_counts
from service.runtime.redis_client import connect
from telemetry.catalogue import DEGRADATIONS_TOTAL, LOG_DEGRADED, LOG_RECOVERED
from tests.contract.quotas import in_redis, refused, running_redis
from tests.contract.redis_server import SOON, until


@pytest.fixture
def server(tmp_path):
    with running_redis(tmp_path) as running:
        yield running


def test_all_processes_count_together(server):
    async def scene():
        async with in_redis(server, requests=100) as one, in_redis(server, requests=100) as two:
            results = await asyncio.gather(
                *(quota.admit("A", "u", {}) for _ in range(100) for quota in (one, two)), return_exceptions=True
            )
            assert sum(not isinstance(result, RateLimited) for result in results) == 100

    asyncio.run(scene())


def test_what_other_processes_used_is_left_no_more_and_many_read_it_at_once(server):
    async def scene():
        rules = {"daily": {"cost": 1.0}}
        async with in_redis(server, **rules) as one, in_redis(server, **rules) as two:
            await two.admit("A", "u", {"cost": 0.75})
            reads = await asyncio.gather(*(one.left(tenant) for tenant in "ABAB"))
            assert [read["cost"] for read in reads] == [0.25, 1.0, 0.25, 1.0]

    asyncio.run(scene())


@pytest.mark.parametrize("how", ["kill", "stop"])
def test_without_redis_what_is_left_is_that_of_this_process_s_share(server, how):
    async def scene():
        async with in_redis(server, processes=2, daily={"cost": 1.0}) as quota:
            getattr(server, how)()
            assert (await quota.left("A"))["cost"] == 1.0
            await quota.admit("A", "u", {"cost": 0.25})
            assert (await quota.left("A"))["cost"] == 0.5
            server.start() if how == "kill" else server.go_on()
            await until(lambda: not quota.degraded)

    asyncio.run(scene())


def test_many_requests_share_one_connection(server):
    async def scene():
        async with in_redis(server, requests=10_000) as quota:
            await asyncio.gather(*(quota.admit("A", "u", {}) for _ in range(1000)))
            redis = connect(server.url)
            assert (await redis.info("clients"))["connected_clients"] <= 2
            await redis.aclose()

    asyncio.run(scene())


def test_the_streams_of_a_process_that_says_nothing_count_no_more_after_a_while(server, monkeypatch):
    lease = 1.5
    monkeypatch.setattr("service.runtime.baskets.STREAM_LEASE", lease)
    monkeypatch.setattr(shared_counts, "STREAM_LEASE", lease)

    async def scene():
        async with in_redis(server, user_streams=1) as one:
            async with in_redis(server, user_streams=1) as dead:
                await dead.admit("A", "u", {})
                await asyncio.sleep(lease * 1.2)
                await refused(one)  # it lives, and its lease is renewed
            async with asyncio.timeout(SOON):
                while True:
                    try:
                        await one.admit("A", "u", {})
                        break
                    except RateLimited:
                        await asyncio.sleep(0.01)

    asyncio.run(scene())


@pytest.mark.parametrize("how", ["kill", "stop"])
def test_without_redis_each_process_admits_from_its_share_and_says_so(server, how):
    async def scene():
        async with in_redis(server, requests=10, period=60.0, daily={"tokens": 1000}) as quota:
            before = await quota.admit("A", "u", {"tokens": 100})
            getattr(server, how)()
            admitted = await asyncio.gather(
                *(quota.admit("A", "u", {"tokens": 10}) for _ in range(20)), return_exceptions=True
            )
            charges = [charge for charge in admitted if not isinstance(charge, Exception)]
            assert len(charges) == 5
            assert quota.degraded
            with pytest.raises(RateLimited) as error:  # at the first step: no wait for a Redis that is known to be gone
                quota.admit("A", "u", {}).send(None)
            assert error.value.reason is Reason.RATE
            seen = server.recorder
            assert (seen.value(DEGRADATIONS_TOTAL, "limits"), len(seen.logged(LOG_DEGRADED))) == (1, 1)
            server.start() if how == "kill" else server.go_on()
            await until(lambda: not quota.degraded)
            assert len(seen.logged(LOG_RECOVERED)) == 1
            before.settle({"tokens": 50})
            for charge in charges:
                charge.settle({"tokens": 7})
            await until(lambda: not quota._basket.owed)

    asyncio.run(scene())


def test_what_was_used_without_redis_is_told_to_it_afterwards(server):
    async def scene():
        async with in_redis(server, daily={"tokens": 1000}) as quota:
            server.kill()
            charge = await quota.admit("A", "u", {"tokens": 10})
            server.start()
            charge.settle({"tokens": 990})
            await until(lambda: not quota.degraded)
            await refused(quota, tokens=11)
            await quota.admit("A", "u", {"tokens": 10})

    asyncio.run(scene())
