"""What a gate says of itself: how long one would wait, when to come again, its metrics, its audit."""

import asyncio

import pytest

from service.errors import Overloaded, RateLimited, Reason
from service.runtime.gate import Gate
from telemetry.catalogue import (
    ADMISSION_QUEUE_DEPTH,
    ADMISSION_WAIT_SECONDS,
    CONCURRENCY_IN_USE,
    CONCURRENCY_LIMIT,
    CONCURRENCY_UNOWNED,
    TENANT_CONCURRENCY_IN_USE,
)
from telemetry.testing import recording_observer
from tests.unit.runtime.line import Line, gate
from tests.virtual_loop import run


def test_the_audit_counts_places_whose_owner_has_ended():
    observer, recorder = recording_observer()

    async def scene():
        g = Gate("requests", 3, queue=10, observer=observer)

        async def forget():
            return g.try_acquire("A", asyncio.current_task())

        task = asyncio.create_task(forget())
        await asyncio.wait([task])
        with g.try_acquire("A", asyncio.current_task()), g.try_acquire("A"):
            assert g.audit() == 1
            assert recorder.value(CONCURRENCY_UNOWNED, "requests") == 1
        task.result().release()
        assert g.audit() == 0

    run(scene())


def test_the_expected_wait_follows_from_how_long_places_are_held_and_from_the_turns_ahead():
    async def scene():
        g = gate(2)
        for _ in range(5):
            with g.try_acquire("A"):
                await asyncio.sleep(4)
        line = Line(g)
        assert g.expected_wait("A") == 0
        await line.join("A1", "A2", "A3", "A4", "A5")
        assert g.expected_wait("A") == pytest.approx((3 + 1) * 4 / 2)
        assert g.expected_wait("B") == pytest.approx((0 + 1) * 4 / 2, abs=2.0)
        assert g.retry_after() == pytest.approx((3 + 1) * 4 / 2)
        with pytest.raises(Overloaded) as refused:
            g.check("A", patience=5)
        assert refused.value.reason is Reason.DEADLINE
        g.check("A", patience=9)
        await line.serve()

    run(scene(), shuffle=False)


def test_a_tenant_that_its_own_limit_would_hold_back_for_too_long_is_told_so_at_once():
    async def scene():
        g = gate(10, tenant_limit=1)
        with g.try_acquire("A"):
            await asyncio.sleep(8)
        with g.try_acquire("A"):
            with pytest.raises(RateLimited) as refused:
                g.check("A", patience=2)
            assert refused.value.reason is Reason.TENANT_CONCURRENCY
            assert refused.value.retry_after == pytest.approx(8)
            g.check("B", patience=0)

    run(scene())


def test_retry_after_is_from_one_second_to_a_minute_and_one_before_anything_is_known():
    async def scene():
        g = gate(1)
        assert g.retry_after() == 1
        with g.try_acquire("A"):
            await asyncio.sleep(1000)
        assert g.retry_after() == 60
        for _ in range(2000):
            with g.try_acquire("A"):
                await asyncio.sleep(0.1)
        assert g.retry_after() == 1

    run(scene())


def test_the_metrics_say_what_is_so():
    observer, recorder = recording_observer()

    def gauges():
        rows = (CONCURRENCY_IN_USE, ADMISSION_QUEUE_DEPTH, CONCURRENCY_LIMIT)
        return [recorder.value(row, "requests") for row in rows]

    async def scene():
        g = Gate("requests", 1, queue=10, tenant_limit=1, observer=observer)
        assert gauges() == [0, 0, 1]
        held = g.try_acquire("acme")
        waiting = asyncio.create_task(g.acquire("somebody"))
        await asyncio.sleep(3)
        assert gauges() == [1, 1, 1]
        assert recorder.value(TENANT_CONCURRENCY_IN_USE, "acme") == 1
        held.release()
        with await waiting:
            assert recorder.value(TENANT_CONCURRENCY_IN_USE, "other") == 1
        g.set_limit(5)
        assert gauges() == [0, 0, 5]
        assert recorder.value(TENANT_CONCURRENCY_IN_USE) == 0

    run(scene())
    assert recorder.value(ADMISSION_WAIT_SECONDS, "requests") == 2
    assert recorder.total(ADMISSION_WAIT_SECONDS, "requests") == 3.0


def test_the_wait_of_one_who_gives_up_is_recorded_too():
    observer, recorder = recording_observer()

    async def scene():
        g = Gate("requests", 1, queue=10, observer=observer)
        with g.try_acquire("acme"), pytest.raises(TimeoutError):
            async with asyncio.timeout(2):
                await g.acquire("acme")

    run(scene())
    assert recorder.total(ADMISSION_WAIT_SECONDS, "requests") == 2.0
