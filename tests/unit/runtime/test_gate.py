"""The rules of a gate, one by one; tests/simulation/test_gate.py drives it at random."""

import asyncio

import pytest

from service.errors import Overloaded, RateLimited, Reason
from service.runtime.gate import Gate, TenantUse
from telemetry.catalogue import (
    ADMISSION_QUEUE_DEPTH,
    ADMISSION_WAIT_SECONDS,
    CONCURRENCY_IN_USE,
    CONCURRENCY_LIMIT,
    CONCURRENCY_UNOWNED,
    TENANT_CONCURRENCY_IN_USE,
)
from telemetry.testing import recording_observer
from tests.simulation.deaf import Deaf
from tests.virtual_loop import run


def gate(limit=1, *, queue=100, **options):
    return Gate("requests", limit, queue=queue, observer=Deaf(), **options)


async def settle():
    """Let every task run until it waits."""
    for _ in range(5):
        await asyncio.sleep(0)


class Line:
    """Requests at a gate: `order` notes who was granted a place, in that order."""

    def __init__(self, at):
        self.gate, self.order, self.tasks = at, [], {}

    async def join(self, *names):
        """Each name is a tenant's letter and a number: A1, A2, B1."""
        for name in names:
            self.tasks[name] = asyncio.create_task(self._wait(name))
            await settle()

    async def _wait(self, name):
        place = await self.gate.acquire(name[0])
        self.order.append(name)
        return place

    async def serve(self):
        """Release what is granted, one place after the other, until nobody is left."""
        while self.tasks:
            await settle()
            name = next(name for name, task in self.tasks.items() if task.done())
            task = self.tasks.pop(name)
            if task.exception() is None:
                task.result().release()
        return self.order


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


def test_tenants_take_turns_whatever_the_length_of_their_lines():
    async def scene():
        line = Line(gate(1))
        held = line.gate.try_acquire("X")
        await line.join("A1", "A2", "A3", "A4", "B1", "B2", "C1")
        held.release()
        assert await line.serve() == ["A1", "B1", "C1", "A2", "B2", "A3", "A4"]

    run(scene(), shuffle=False)


def test_a_tenant_of_weight_two_gets_two_places_in_a_turn():
    async def scene():
        line = Line(gate(1, weights={"A": 2}))
        held = line.gate.try_acquire("X")
        await line.join("A1", "A2", "A3", "A4", "B1", "B2")
        held.release()
        assert await line.serve() == ["A1", "A2", "B1", "A3", "A4", "B2"]

    run(scene(), shuffle=False)


def test_a_newcomer_goes_before_those_who_have_had_a_turn_but_only_once():
    async def scene():
        line = Line(gate(1))
        held = line.gate.try_acquire("X")
        await line.join("A1", "A2", "A3", "A4")
        held.release()
        await settle()  # A1 has the place now, and A has had its turn
        await line.join("B1")
        line.tasks.pop("A1").result().release()
        await settle()
        assert line.order == ["A1", "B1"]
        await line.join("B2")  # no newcomer any more
        line.tasks.pop("B1").result().release()
        await settle()
        assert line.order == ["A1", "B1", "A2"]
        await line.serve()

    run(scene(), shuffle=False)


def test_a_newcomer_does_not_wait_for_the_turns_of_all_who_have_a_backlog():
    async def scene():
        line = Line(gate(1))
        held = line.gate.try_acquire("X")
        await line.join("A1", "A2", "B1", "B2", "C1", "C2")
        held.release()
        for name in ("A1", "B1", "C1"):
            await settle()
            line.tasks.pop(name).result().release()
        await settle()  # A2 has the place, then it is the turn of B and C
        await line.join("D1")
        assert await line.serve() == ["A1", "B1", "C1", "A2", "D1", "B2", "C2"]

    run(scene(), shuffle=False)


def test_a_weight_below_one_is_refused():
    with pytest.raises(ValueError, match="at least 1"):
        gate(1, weights={"A": 0.5})


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
