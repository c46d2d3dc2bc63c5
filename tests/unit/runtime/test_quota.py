"""Rates, daily amounts, streams of a user; and that a reservation is settled however the request ends."""

import asyncio

import pytest

from service.errors import RateLimited, Reason
from service.runtime.counts import MemoryQuota
from service.runtime.quota import DAY, Allowance, Rules
from tests.virtual_loop import run, virtual_world


def make(**rules):
    return MemoryQuota(Rules(**rules), virtual_world().now)


async def refused(quota, tenant="A", user="u", **amounts):
    with pytest.raises(RateLimited) as error:
        await quota.admit(tenant, user, amounts)
    return error.value


def test_without_rules_everything_is_admitted_and_nothing_promised():
    async def scene():
        quota = make()
        for _ in range(1000):
            assert (await quota.admit("A", "u", {"tokens": 1e9})).allowance is None

    run(scene())


def test_a_rate_holds_in_any_stretch_of_its_period():
    async def scene():
        quota = make(requests=60, period=60.0)
        admitted = []
        for _ in range(2000):
            try:
                await quota.admit("A", "u", {})
                admitted.append(asyncio.get_running_loop().time())
            except RateLimited:
                pass
            await asyncio.sleep(0.17)
        assert all(later - sooner >= 60 for sooner, later in zip(admitted, admitted[60:], strict=False))
        assert len(admitted) > 60 * 2000 * 0.17 / 60 - 60  # and no more is refused than must be

    run(scene())


def test_a_refusal_by_rate_says_exactly_when_to_come_again():
    async def scene():
        quota = make(requests=2, period=60.0)
        await quota.admit("A", "u", {})
        await asyncio.sleep(20)
        await quota.admit("A", "u", {})
        error = await refused(quota)
        assert (error.reason, error.retry_after) == (Reason.RATE, 40.0)
        assert error.allowance == Allowance(limit=2, remaining=0, reset=40.0)
        await asyncio.sleep(40)
        await quota.admit("A", "u", {})

    run(scene())


def test_one_tenants_rate_is_not_anothers():
    async def scene():
        quota = make(requests=1)
        await quota.admit("A", "u", {})
        await quota.admit("B", "u", {})
        await refused(quota)

    run(scene())


def test_an_admitted_request_knows_what_is_left_of_the_rate():
    async def scene():
        quota = make(requests=3, period=60.0)
        await quota.admit("A", "u", {})
        await asyncio.sleep(9.5)
        charge = await quota.admit("A", "u", {})
        assert charge.allowance == Allowance(limit=3, remaining=1, reset=50.5)
        assert charge.allowance.headers() == {
            "X-RateLimit-Limit": "3",
            "X-RateLimit-Remaining": "1",
            "X-RateLimit-Reset": "51",
        }

    run(scene())


def test_what_was_reserved_is_replaced_by_what_was_used():
    async def scene():
        quota = make(daily={"tokens": 1000, "cost": 1.0})
        charge = await quota.admit("A", "u", {"tokens": 900, "cost": 0.5})
        error = await refused(quota, tokens=200)
        assert error.reason is Reason.QUOTA
        assert "tokens" in error.detail
        charge.settle({"tokens": 100, "cost": 0.25})
        charge.settle({"tokens": 9999})
        assert quota.used("A") == {"tokens": 100, "cost": 0.25}
        await quota.admit("A", "u", {"tokens": 200})

    run(scene())


def test_a_cancelled_request_settles_what_it_used_until_then():
    async def scene():
        quota = make(daily={"tokens": 1000}, user_streams=1)

        async def request():
            charge = await quota.admit("A", "u", {"tokens": 900})
            try:
                await asyncio.sleep(100)
            finally:
                charge.settle({"tokens": 30})

        task = asyncio.create_task(request())
        await asyncio.sleep(1)
        task.cancel()
        await asyncio.wait([task])
        assert quota.used("A") == {"tokens": 30}
        await quota.admit("A", "u", {"tokens": 900})

    run(scene())


def test_more_used_than_reserved_is_owed_and_refuses_the_next():
    async def scene():
        quota = make(daily={"tokens": 1000})
        (await quota.admit("A", "u", {"tokens": 10})).settle({"tokens": 1500})
        assert (await refused(quota)).reason is Reason.QUOTA

    run(scene())


def test_a_quota_comes_back_at_midnight_utc_and_retry_after_says_so():
    async def scene():
        quota = make(daily={"tokens": 10})
        charge = await quota.admit("A", "u", {"tokens": 10})
        error = await refused(quota, tokens=1)
        await asyncio.sleep(error.retry_after - 1)
        await refused(quota, tokens=1)
        await asyncio.sleep(1)
        await quota.admit("A", "u", {"tokens": 10})
        charge.settle({"tokens": 0})  # of yesterday: nothing of today comes free by it
        assert quota.used("A") == {"tokens": 10}
        assert error.retry_after <= DAY

    run(scene())


def test_a_request_that_is_refused_uses_up_nothing():
    async def scene():
        quota = make(requests=1, daily={"tokens": 10})
        await refused(quota, tokens=11)
        assert quota.used("A") == {"tokens": 0}
        await quota.admit("A", "u", {"tokens": 5})
        assert (await refused(quota, tokens=1)).reason is Reason.RATE
        assert quota.used("A") == {"tokens": 5}

    run(scene())


def test_a_user_has_so_many_streams_at_once_whatever_others_have():
    async def scene():
        quota = make(user_streams=2)
        first = await quota.admit("A", "u", {})
        await quota.admit("A", "u", {})
        assert (await refused(quota)).reason is Reason.QUOTA
        await quota.admit("A", "other", {})
        await quota.admit("B", "u", {})
        first.settle({})
        await quota.admit("A", "u", {})

    run(scene())


def test_a_request_refused_by_rate_does_not_count_as_a_stream():
    async def scene():
        quota = make(requests=1, period=10.0, user_streams=1)
        (await quota.admit("A", "u", {})).settle({})
        for _ in range(3):
            assert (await refused(quota)).reason is Reason.RATE
        await asyncio.sleep(10)
        await quota.admit("A", "u", {})

    run(scene())


def test_processes_that_cannot_see_one_another_have_a_share_each():
    share = Rules(requests=10, daily={"tokens": 900}, user_streams=3).share(4)
    assert (share.requests, share.daily, share.user_streams) == (2, {"tokens": 225.0}, 1)
    assert Rules(requests=1, user_streams=8).share(4) == Rules(requests=1, user_streams=2)
    assert Rules().share(4) == Rules()
