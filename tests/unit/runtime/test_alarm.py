"""An alarm ends its block at its moment, moves for nothing, and keeps the rules of cancellation of asyncio.timeout."""

import asyncio
from math import inf

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.runtime.alarm import Alarm
from tests.virtual_loop import run


def now():
    return asyncio.get_running_loop().time()


def timers():
    """How many timers of the loop are armed."""
    return sum(not handle.cancelled() for handle in asyncio.get_running_loop()._scheduled)


def test_it_ends_the_block_at_its_moment_and_says_so():
    async def scene():
        with Alarm(2.5) as alarm:
            await asyncio.sleep(10)
        assert (alarm.expired, alarm.rang, now()) == (True, True, 2.5)
        assert asyncio.current_task().cancelling() == 0
        await asyncio.sleep(1)  # the task goes on as if nothing had been

    run(scene())


def test_a_block_that_ends_in_time_hears_nothing_and_leaves_no_timer():
    async def scene():
        with Alarm(2.5) as alarm:
            await asyncio.sleep(2)
        assert not alarm.expired
        assert timers() == 0
        await asyncio.sleep(10)

    run(scene())


def test_a_moment_that_has_passed_rings_at_the_next_wait():
    async def scene():
        await asyncio.sleep(5)
        with Alarm(1.0) as alarm:
            await asyncio.sleep(10)
        assert (alarm.expired, now()) == (True, 5)

    run(scene())


def test_without_a_moment_it_never_rings_and_arms_nothing():
    async def scene():
        with Alarm() as alarm:
            assert timers() == 0
            await asyncio.sleep(1e4)
        assert not alarm.expired

    run(scene())


@pytest.mark.parametrize(
    ("moves", "rings"), [([8], 8), ([1], 1), ([8, 2], 2), ([2, 8], 8), ([inf], None), ([inf, 4], 4)]
)
def test_it_rings_at_the_last_moment_that_it_was_moved_to(moves, rings):
    async def scene():
        with Alarm(3.0) as alarm:
            for when in moves:
                alarm.move(when)
            await asyncio.sleep(100)
        assert alarm.expired == (rings is not None)
        assert now() == (rings or 100)

    run(scene())


def test_moving_it_later_a_thousand_times_costs_no_timer():
    async def scene():
        with Alarm(1.0) as alarm:
            for step in range(1000):
                alarm.move(1.0 + step)
                assert timers() == 1
            await asyncio.sleep(2000)
        assert now() == 1000

    run(scene())


def test_after_it_rang_it_cannot_be_moved_any_more():
    async def scene():
        with Alarm(1.0) as alarm:
            try:
                await asyncio.sleep(10)
            finally:
                alarm.move(5.0)
                assert timers() == 0
        assert alarm.expired

    run(scene())


def test_a_failure_of_the_block_is_raised_although_it_rang():
    async def scene():
        alarm = Alarm(1.0)

        async def block():
            with alarm:
                try:
                    await asyncio.sleep(10)
                except asyncio.CancelledError as error:
                    raise ZeroDivisionError from error

        with pytest.raises(ZeroDivisionError):
            await block()
        assert (alarm.expired, alarm.rang) == (False, True)
        assert asyncio.current_task().cancelling() == 0

    run(scene())


def test_a_block_that_ends_well_although_it_rang_has_ended_well():
    async def scene():
        with Alarm(1.0) as alarm:
            try:
                await asyncio.sleep(10)
            except asyncio.CancelledError:
                await asyncio.sleep(3)
        assert not alarm.expired
        assert asyncio.current_task().cancelling() == 0

    run(scene())


def test_it_needs_a_task():
    async def scene():
        loop, failed = asyncio.get_running_loop(), []
        loop.set_exception_handler(lambda loop, context: failed.append(str(context["exception"])))
        loop.call_soon(Alarm(1.0).__enter__)
        await asyncio.sleep(0)
        assert failed == ["an Alarm needs a task to cancel"]

    run(scene())


# --- the same as asyncio.timeout --------------------------------------------------------------------------------


async def with_timeouts(outer, inner, first, second, told):
    try:
        async with asyncio.timeout_at(outer):
            try:
                async with asyncio.timeout_at(inner):
                    await asyncio.sleep(first)
            except TimeoutError:
                told.append(("inner", now()))
            await asyncio.sleep(second)
    except TimeoutError:
        told.append(("outer", now()))


async def with_alarms(outer, inner, first, second, told):
    with Alarm(outer) as around:
        with Alarm(inner) as within:
            await asyncio.sleep(first)
        if within.expired:
            told.append(("inner", now()))
        await asyncio.sleep(second)
    if around.expired:
        told.append(("outer", now()))


def told_by(blocks, *times, stops):
    """Run two nested limits, cancelled from outside at `stops`; return all that can be seen of it."""
    told = []

    async def work():
        try:
            await blocks(*times, told)
        except asyncio.CancelledError:
            told.append(("cancelled", now()))
            raise
        finally:
            told.append(("counted", asyncio.current_task().cancelling()))

    async def scene():
        task = asyncio.create_task(work())
        for stop in stops:
            asyncio.get_running_loop().call_at(stop, task.cancel)
        await asyncio.wait([task])
        told.append(("ended", now(), task.cancelled()))

    run(scene(), shuffle=False)
    return told


TIMES = st.integers(1, 5).map(float)


@given(TIMES, TIMES, TIMES, TIMES, st.lists(TIMES, max_size=2))
def test_nested_limits_and_cancellations_at_any_moments_end_as_with_asyncio_timeout(outer, inner, first, second, stops):
    times = (outer, inner, first, second)
    assert told_by(with_alarms, *times, stops=stops) == told_by(with_timeouts, *times, stops=stops)


@pytest.mark.parametrize("seed", range(50))
def test_a_cancellation_from_elsewhere_at_the_same_moment_is_never_lost(seed):
    async def block():
        with Alarm(1.0):
            await asyncio.sleep(10)
        await asyncio.sleep(10)

    async def scene():
        task = asyncio.create_task(block())
        await asyncio.sleep(0)
        asyncio.get_running_loop().call_at(1.0, task.cancel)
        await asyncio.wait([task])
        assert task.cancelled()
        assert now() == 1.0

    run(scene(), seed=seed)
