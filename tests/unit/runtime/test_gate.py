"""The places of a gate, one rule after the other; tests/simulation/test_gate.py drives it at random."""

import asyncio

import pytest

from service.runtime.gate import TenantUse
from tests.unit.runtime.line import gate, settle
from tests.virtual_loop import run


def test_a_free_place_is_granted_without_waiting():
    async def scene():
        g = gate(2)
        with await g.acquire("A"):
            assert g.statistics().in_use == 1
        assert g.statistics().in_use == 0

    run(scene())


def test_try_acquire_returns_none_when_every_place_is_taken():
    async def scene():
        g = gate(1)
        place = g.try_acquire("A")
        assert g.try_acquire("B") is None
        place.release()
        assert g.try_acquire("B") is not None

    run(scene())


def test_releasing_twice_gives_back_one_place():
    async def scene():
        g = gate(2)
        first, _second = g.try_acquire("A"), g.try_acquire("A")
        first.release()
        first.release()
        assert g.statistics().in_use == 1

    run(scene())


def test_a_place_that_comes_free_belongs_to_the_waiter_before_it_has_run():
    async def scene():
        g = gate(1)
        held = g.try_acquire("A")
        waiting = asyncio.create_task(g.acquire("B"))
        await settle()
        held.release()
        assert g.try_acquire("C") is None
        (await waiting).release()

    run(scene())


def test_a_cancelled_waiter_leaves_the_line():
    async def scene():
        g = gate(1)
        with g.try_acquire("A"):
            waiting = asyncio.create_task(g.acquire("B"))
            await settle()
            waiting.cancel()
            await settle()
            assert g.statistics().tenants == {"A": TenantUse(1, 0)}

    run(scene())


@pytest.mark.parametrize("seed", range(20))
def test_a_place_granted_to_a_task_that_is_cancelled_at_that_moment_goes_to_the_next(seed):
    async def scene():
        g = gate(1)
        held = g.try_acquire("A")
        first = asyncio.create_task(g.acquire("B"))
        second = asyncio.create_task(g.acquire("C"))
        await settle()
        loop = asyncio.get_running_loop()
        loop.call_soon(held.release)
        loop.call_soon(first.cancel)
        (await second).release()
        await asyncio.wait([first])
        if not first.cancelled():
            first.result().release()
        assert g.statistics().in_use == 0

    run(scene(), seed=seed)


def test_a_waiter_pushed_out_and_cancelled_at_once_is_only_cancelled():
    async def scene():
        g = gate(1, queue=1)
        held = g.try_acquire("X")
        first = asyncio.create_task(g.acquire("A"))
        await settle()
        second = asyncio.create_task(g.acquire("B"))
        await asyncio.sleep(0)
        first.cancel()
        held.release()
        (await second).release()
        await asyncio.wait([first])
        assert first.cancelled()

    run(scene(), shuffle=False)


def test_a_smaller_limit_revokes_nothing_and_a_larger_one_lets_waiters_in():
    async def scene():
        g = gate(2)
        first, second = g.try_acquire("A"), g.try_acquire("A")
        waiting = asyncio.create_task(g.acquire("B"))
        await settle()
        g.set_limit(1)
        assert g.statistics().in_use == 2
        first.release()
        await settle()
        assert not waiting.done()
        g.set_limit(2)
        (await waiting).release()
        second.release()

    run(scene())


def test_a_larger_tenant_limit_lets_its_waiters_in():
    async def scene():
        g = gate(3, tenant_limit=1)
        with g.try_acquire("A"):
            waiting = asyncio.create_task(g.acquire("A"))
            await settle()
            assert not waiting.done()
            g.set_limit(3, tenant_limit=2)
            (await waiting).release()

    run(scene())


def test_whoever_looks_for_more_places_is_told_when_somebody_begins_to_wait():
    async def scene():
        g, told = gate(1), []
        g.call_when_short(lambda: told.append(g.waiting))
        with g.try_acquire("A"):
            waiting = asyncio.create_task(g.acquire("B"))
            await settle()
            assert told == [1]
        (await waiting).release()

    run(scene())
