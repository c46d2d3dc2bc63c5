"""Blocking things, lent to one coroutine at a time: who waits, what is interrupted, what is replaced."""

from __future__ import annotations

import asyncio
import threading

import pytest

from service.errors import RetrievalFailed
from service.runtime.lending import Lending
from tests.support import PATIENCE

SOON = PATIENCE


class Thing:
    """Works until it is told to finish or is interrupted."""

    made = 0

    def __init__(self):
        type(self).made += 1
        self.number = type(self).made
        self.began, self.finish = threading.Event(), threading.Event()
        self.interrupted = self.closed = self.busy = False

    def work(self):
        assert not self.busy
        assert not self.closed
        self.busy = True
        self.began.set()
        done = self.finish.wait(SOON)
        self.busy = False
        assert done
        if self.interrupted:
            raise OSError("interrupted")
        return self.number

    def interrupt(self):
        self.interrupted = True
        self.finish.set()

    def close(self):
        self.closed = True


@pytest.fixture(autouse=True)
def fresh_numbers():
    Thing.made = 0


def lending(script, size=1, open_one=Thing):
    async def main():
        lent = Lending(open_one, size=size, name="test", refusal=RetrievalFailed)
        try:
            return await asyncio.wait_for(script(lent), SOON)
        finally:
            await lent.close()

    return asyncio.run(main())


async def begun(lent, number=0):
    while lent._slots[number].thing is None or not lent._slots[number].thing.began.is_set():
        await asyncio.sleep(0.001)  # real time: a thread begins, and tells no loop
    return lent._slots[number].thing


def test_no_thing_is_used_by_two_at_once_and_everybody_gets_a_turn():
    async def script(lent):
        users = [asyncio.create_task(lent.use(Thing.work)) for _ in range(10)]
        for slot in range(2):
            (await begun(lent, slot)).finish.set()
        return await asyncio.gather(*users)

    assert set(lending(script, size=2)) <= {1, 2}
    assert Thing.made == 2


def test_who_leaves_is_gone_at_once_and_the_thing_is_interrupted_and_replaced():
    async def script(lent):
        user = asyncio.create_task(lent.use(Thing.work))
        first = await begun(lent)
        user.cancel()
        with pytest.raises(asyncio.CancelledError):
            await user
        assert first.interrupted
        second = await lent.use(lambda thing: thing)
        assert first.closed
        return first.number, second.number, second.interrupted

    assert lending(script) == (1, 2, False)


def test_who_leaves_the_queue_interrupts_nobody():
    async def script(lent):
        user = asyncio.create_task(lent.use(Thing.work))
        thing = await begun(lent)
        waiting = asyncio.create_task(lent.use(Thing.work))
        await asyncio.sleep(0)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        thing.finish.set()
        return await user, thing.interrupted

    assert lending(script) == (1, False)


def test_a_thing_that_failed_is_replaced():
    def fail(_):
        raise ValueError("no")

    async def script(lent):
        with pytest.raises(ValueError, match="no"):
            await lent.use(fail)
        return await lent.use(lambda thing: thing.number)

    assert lending(script) == 2


def test_a_thing_that_cannot_be_opened_is_tried_again_by_the_next_user():
    refusals = iter([True, True, False])

    def open_one():
        if next(refusals):
            raise OSError("not yet")
        return Thing()

    async def script(lent):
        with pytest.raises(OSError, match="not yet"):
            await lent.use(lambda thing: thing.number)
        return await lent.use(lambda thing: thing.number)

    assert lending(script, open_one=open_one) == 1


def test_who_leaves_while_it_is_opened_has_no_work_done():
    opening, go_on, worked = threading.Event(), threading.Event(), []

    def open_one():
        opening.set()
        assert go_on.wait(SOON)
        return Thing()

    async def script(lent):
        user = asyncio.create_task(lent.use(worked.append))
        while not opening.is_set():
            await asyncio.sleep(0.001)  # real time: a thread begins, and tells no loop
        user.cancel()
        with pytest.raises(asyncio.CancelledError):
            await user
        go_on.set()
        return await lent.use(lambda thing: thing.number)

    assert lending(script, open_one=open_one) == 2
    assert worked == []


def test_after_closing_nothing_is_lent_and_who_waited_is_told():
    async def script(lent):
        running = asyncio.create_task(lent.use(Thing.work))
        thing = await begun(lent)
        waiting = [asyncio.create_task(lent.use(Thing.work)) for _ in range(3)]
        await asyncio.sleep(0)
        await lent.close()
        late = lent.use(Thing.work)
        outcomes = await asyncio.gather(running, *waiting, late, return_exceptions=True)
        return [type(outcome) for outcome in outcomes], thing.closed

    assert lending(script) == ([OSError, *[RetrievalFailed] * 4], True)
    assert Thing.made == 1
