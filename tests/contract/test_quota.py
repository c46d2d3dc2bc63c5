"""One quota, in the memory of one process or in Redis for all: the same promises, and life without Redis."""

import asyncio
import contextlib

import pytest

from service.errors import RateLimited, Reason
from service.runtime import shared_counts
from service.runtime.counts import MemoryQuota
from service.runtime.outage import Outage
from service.runtime.quota import Rules
from service.runtime.redis_client import connect
from service.runtime.shared_counts import SharedQuota
from service.runtime.world import real_world
from telemetry.catalogue import DEGRADATIONS_TOTAL, LOG_DEGRADED, LOG_RECOVERED
from telemetry.testing import recording_observer
from tests.contract.redis_server import SOON, RedisServer, until, until_answering
from tests.support import not_across_midnight

WORLD = real_world()


@pytest.fixture
def server(tmp_path):
    not_across_midnight()
    running = RedisServer(tmp_path)
    running.start()
    running.observer, running.recorder = recording_observer()
    yield running
    running.kill()


@pytest.fixture(params=["memory", "redis"])
def quotas(request):
    """`quotas(rules)` is a context in which a quota is open."""
    not_across_midnight()
    if request.param == "memory":
        return in_memory
    server = request.getfixturevalue("server")
    return lambda **rules: in_redis(server, **rules)


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


def test_a_rate_is_held_for_each_tenant_and_told(quotas):
    async def scene():
        async with quotas(requests=3, period=60.0) as quota:
            told = [(await quota.admit("A", "u", {})).allowance for _ in range(3)]
            assert [(one.limit, one.remaining) for one in told] == [(3, 2), (3, 1), (3, 0)]
            error = await refused(quota)
            assert error.reason is Reason.RATE
            assert 0 < error.retry_after <= 60
            assert error.allowance.remaining == 0
            await quota.admit("B", "u", {})

    asyncio.run(scene())


def test_a_rate_holds_in_any_stretch_of_its_period(quotas):
    async def scene():
        async with quotas(requests=5, period=0.3) as quota:
            loop, asked, admitted = asyncio.get_running_loop(), [], []
            while len(admitted) < 16:
                now = loop.time()
                try:
                    await quota.admit("A", "u", {})
                except RateLimited:
                    await asyncio.sleep(0.01)
                    continue
                asked.append(now)
                admitted.append(loop.time())  # it was decided in between
            # 2 ms: Redis has a clock of its own
            assert all(later - sooner >= 0.298 for sooner, later in zip(asked, admitted[5:], strict=False))

    asyncio.run(scene())


def test_a_daily_amount_is_reserved_and_settled(quotas):
    async def scene():
        async with quotas(daily={"tokens": 1000, "cost": 1.0}) as quota:
            charge = await quota.admit("A", "u", {"tokens": 900, "cost": 0.5})
            error = await refused(quota, tokens=200)
            assert (error.reason, "tokens" in error.detail) == (Reason.QUOTA, True)
            charge.settle({"tokens": 100, "cost": 0.25})
            charge.settle({"tokens": 9999})
            last = await quota.admit("A", "u", {"tokens": 900, "cost": 0.75})
            assert "tokens" in (await refused(quota)).detail
            last.settle({"cost": 0.75})
            assert "cost" in (await refused(quota, tokens=1)).detail

    asyncio.run(scene())


def test_what_uses_nothing_metered_is_admitted_when_a_day_s_amount_is_used_up(quotas):
    async def scene():
        async with quotas(requests=3, daily={"tokens": 1000}) as quota:
            (await quota.admit("A", "u", {"tokens": 1000})).settle({"tokens": 1000})
            await refused(quota)
            (await quota.admit("A", "u", None)).settle({})
            await quota.admit("A", "u", None)
            assert (await refused(quota)).reason is Reason.RATE

    asyncio.run(scene())


def test_what_is_left_of_a_day_is_a_part_of_it_with_what_is_reserved_taken_off(quotas):
    async def scene():
        async with quotas(daily={"tokens": 1000, "cost": 1.0}) as quota:
            assert await quota.left("A") == {"tokens": 1.0, "cost": 1.0}
            charge = await quota.admit("A", "u", {"tokens": 900, "cost": 0.5})
            assert await quota.left("A") == pytest.approx({"tokens": 0.1, "cost": 0.5})
            charge.settle({"tokens": 1500, "cost": 0.25})
            assert await quota.left("A") == pytest.approx({"tokens": -0.5, "cost": 0.75})
            assert await quota.left("B") == {"tokens": 1.0, "cost": 1.0}

    asyncio.run(scene())


def test_where_nothing_is_metered_nothing_is_left_to_read(quotas):
    async def scene():
        async with quotas(requests=3) as quota:
            assert await quota.left("A") == {}

    asyncio.run(scene())


def test_a_user_has_so_many_streams_at_once_and_the_next_as_soon_as_one_ends(quotas):
    async def scene():
        async with quotas(user_streams=2) as quota:
            first = await quota.admit("A", "u", {})
            await quota.admit("A", "u", {})
            assert (await refused(quota)).reason is Reason.QUOTA
            await quota.admit("A", "other", {})
            await quota.admit("B", "u", {})
            for _ in range(50):
                first.settle({})
                first = await quota.admit("A", "u", {})
                await refused(quota)

    asyncio.run(scene())


def test_a_refused_request_uses_up_nothing(quotas):
    async def scene():
        async with quotas(requests=2, daily={"tokens": 10}, user_streams=1) as quota:
            await refused(quota, tokens=11)
            first = await quota.admit("A", "u", {"tokens": 5})
            assert "at once" in (await refused(quota, tokens=5)).detail
            await quota.admit("A", "v", {"tokens": 5})
            assert (await refused(quota, user="w")).reason is Reason.RATE
            first.settle({})

    asyncio.run(scene())


def test_cancelled_requests_leave_no_stream_and_no_reservation_behind(quotas):
    async def scene():
        async with quotas(daily={"tokens": 100}, user_streams=3) as quota:

            async def request(number):
                charge = await quota.admit("A", "u", {"tokens": 30})
                try:
                    await asyncio.sleep(0.001 * (number % 3))
                finally:
                    charge.settle({})

            for burst in range(30):
                tasks = [asyncio.create_task(request(number)) for number in range(3)]
                for _ in range(burst % 10):
                    await asyncio.sleep(0)
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)
                await asyncio.sleep(0.002)

            charges = [await quota.admit("A", "u", {"tokens": 33}) for _ in range(3)]
            assert len(charges) == 3

    asyncio.run(scene())


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
