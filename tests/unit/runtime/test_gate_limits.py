"""Whom a gate refuses, and whom it lets wait: a tenant's own limits, and a queue that is full."""

import asyncio

import pytest

from service.errors import Overloaded, RateLimited, Reason
from tests.unit.runtime.line import Line, gate, settle
from tests.virtual_loop import run


def test_a_tenant_at_its_own_limit_waits_in_its_line_and_holds_up_nobody():
    async def scene():
        g = gate(3, tenant_limit=1)
        held = g.try_acquire("A")
        waiting = asyncio.create_task(g.acquire("A"))
        await settle()
        assert g.why_waiting("A") is Reason.TENANT_CONCURRENCY
        with await g.acquire("B"):
            assert not waiting.done()
        held.release()
        (await waiting).release()
        assert g.statistics() == type(g.statistics())(0, 3, 0, {})

    run(scene())


def test_a_tenant_below_its_limit_waits_for_a_place_at_all():
    async def scene():
        g = gate(1, tenant_limit=1)
        with g.try_acquire("A"):
            assert g.why_waiting("B") is Reason.DEADLINE
            assert g.why_waiting("A") is Reason.DEADLINE  # both hold it back
            assert isinstance(g.refusal("A"), Overloaded)

    run(scene())


def test_a_tenant_whose_own_line_is_full_gets_429():
    async def scene():
        g = gate(1, tenant_queue=1)
        with g.try_acquire("A"):
            waiting = asyncio.create_task(g.acquire("A"))
            await settle()
            with pytest.raises(RateLimited) as refused:
                await g.acquire("A")
            assert refused.value.reason is Reason.TENANT_QUEUE_FULL
            assert refused.value.retry_after >= 1
        (await waiting).release()

    run(scene())


def test_in_a_full_queue_a_tenant_with_a_shorter_line_pushes_out_the_newest_of_the_longest():
    async def scene():
        line = Line(gate(1, queue=3))
        held = line.gate.try_acquire("X")
        await line.join("A1", "A2", "A3", "B1")
        with pytest.raises(Overloaded) as pushed:
            await line.tasks.pop("A3")
        assert pushed.value.reason is Reason.QUEUE_FULL
        held.release()
        assert await line.serve() == ["A1", "B1", "A2"]

    run(scene(), shuffle=False)


def test_of_lines_of_one_length_the_newest_waiter_is_pushed_out():
    async def scene():
        line = Line(gate(1, queue=3))
        held = line.gate.try_acquire("X")
        await line.join("A1", "B1", "C1", "D1")
        assert isinstance(line.tasks.pop("C1").exception(), Overloaded)
        held.release()
        assert await line.serve() == ["A1", "B1", "D1"]

    run(scene(), shuffle=False)


def test_in_a_full_queue_a_tenant_with_the_longest_line_is_refused_itself():
    async def scene():
        line = Line(gate(1, queue=2))
        held = line.gate.try_acquire("X")
        await line.join("A1", "A2")
        with pytest.raises(Overloaded) as refused:
            await line.gate.acquire("A")
        assert refused.value.reason is Reason.QUEUE_FULL
        held.release()
        assert await line.serve() == ["A1", "A2"]

    run(scene())


def test_without_a_queue_a_newcomer_is_refused_at_once():
    async def scene():
        g = gate(1, queue=0)
        with g.try_acquire("A"), pytest.raises(Overloaded):
            await g.acquire("B")
        assert g.statistics().tenants == {}

    run(scene())
