"""One quota, in the memory of one process or in Redis for all: the same promises."""

import asyncio

import pytest

from service.errors import RateLimited, Reason
from tests.contract.quotas import in_memory, in_redis, refused, running_redis
from tests.support import not_across_midnight


@pytest.fixture(params=["memory", "redis"])
def quotas(request, tmp_path):
    """`quotas(rules)` is a context in which a quota is open."""
    if request.param == "memory":
        not_across_midnight()
        yield in_memory
        return
    with running_redis(tmp_path) as server:
        yield lambda **rules: in_redis(server, **rules)


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
