import asyncio
import time

import pytest

from telemetry.catalogue import EVENT_LOOP_LAG_SECONDS, LOG_BLOCKED_LOOP
from telemetry.loop import LoopLag, Watchdog
from telemetry.testing import recording_observer
from tests.support import PATIENCE
from tests.virtual_loop import run


def block(seconds, until=lambda: False):
    end = time.perf_counter() + seconds
    while time.perf_counter() < end and not until():  # works, and does not let go of the loop
        pass


def test_lag_is_sampled_four_times_a_second_until_it_is_stopped():
    observer, recorder = recording_observer()

    async def for_two_seconds():
        lag = LoopLag(observer)
        await asyncio.sleep(2.1)
        lag.stop()
        await asyncio.sleep(2)

    run(for_two_seconds())
    assert recorder.value(EVENT_LOOP_LAG_SECONDS) == 8
    assert recorder.total(EVENT_LOOP_LAG_SECONDS) == 0


def test_a_blocked_loop_is_late():
    observer, recorder = recording_observer()

    async def blocked():
        lag = LoopLag(observer)
        block(0.5)
        while recorder.value(EVENT_LOOP_LAG_SECONDS) < 1:
            await asyncio.sleep(0)
        lag.stop()

    asyncio.run(blocked())
    assert recorder.total(EVENT_LOOP_LAG_SECONDS) > 0.2


def test_a_call_that_blocks_is_logged_once_with_its_stack():
    observer, recorder = recording_observer()

    async def blocked():
        watchdog = Watchdog(observer)
        await asyncio.sleep(0)
        block(PATIENCE, until=here)
        block(0.3)
        watchdog.stop()

    def here():
        """The lines of the call itself: a machine that stands still blocks a loop too."""
        lines = recorder.logged(LOG_BLOCKED_LOOP)
        return [line for line in lines if any(frame.endswith(" in block") for frame in line["stack"])]

    asyncio.run(blocked())
    (line,) = here()
    assert line["blocked_ms"] >= 50


def test_the_loop_is_looked_at_when_a_sign_of_life_is_overdue_and_not_before():
    observer, recorder = recording_observer()

    async def looked_at():
        watchdog = Watchdog(observer, blocked_after=PATIENCE)  # so that its own thread sleeps through all of this
        beat, overdue = watchdog._last_beat, 1.2 * PATIENCE
        assert watchdog._look(beat + 1) == pytest.approx(overdue - 1)
        assert recorder.logged(LOG_BLOCKED_LOOP) == []
        assert watchdog._look(beat + overdue) == pytest.approx(0.4 * PATIENCE)
        assert watchdog._look(beat + 1.6 * PATIENCE) == pytest.approx(0.4 * PATIENCE)
        watchdog.stop()

    asyncio.run(looked_at())
    (line,) = recorder.logged(LOG_BLOCKED_LOOP)
    assert line["blocked_ms"] == round(1.2e3 * PATIENCE)


def test_a_loop_that_only_waits_is_not_blocked():
    async def idle(observer):
        watchdog = Watchdog(observer, blocked_after=0.2)
        waited = asyncio.Event()
        asyncio.get_running_loop().call_later(0.5, waited.set)
        await waited.wait()
        watchdog.stop()

    def is_told():
        observer, recorder = recording_observer()
        asyncio.run(idle(observer))
        return recorder.logged(LOG_BLOCKED_LOOP)

    assert not all(is_told() for _ in range(10))  # at the first time, unless the machine itself stands still
