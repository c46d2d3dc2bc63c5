"""The queue between producer and reader: bounded, in order, and always able to say how it ended."""

import asyncio

import pytest

from service.runtime.outbox import Outbox
from tests.virtual_loop import run


def test_what_waits_is_taken_at_once_and_in_order():
    async def scene():
        outbox = Outbox(10)
        for event in "abc":
            await outbox.put(event)
        assert len(outbox) == outbox.high_water == 3
        assert await outbox.take() == ["a", "b", "c"]
        assert len(outbox) == 0

    run(scene())


def test_a_reader_waits_for_the_first_event():
    async def scene():
        outbox = Outbox(10)
        reader = asyncio.create_task(outbox.take())
        await asyncio.sleep(5)
        assert not reader.done()
        await outbox.put("a")
        assert await reader == ["a"]

    run(scene())


def test_a_producer_waits_while_it_is_full_and_goes_on_when_something_was_taken():
    async def scene():
        outbox = Outbox(2)
        await outbox.put("a")
        assert not outbox.full
        await outbox.put("b")
        assert outbox.full
        with pytest.raises(asyncio.QueueFull):
            outbox.put_nowait("x")
        producer = asyncio.create_task(outbox.put("c"))
        await asyncio.sleep(5)
        assert not producer.done()
        assert await outbox.take() == ["a", "b"]
        await producer
        assert await outbox.take() == ["c"]
        assert outbox.high_water == 2

    run(scene())


def test_many_are_put_at_once_or_none_of_them():
    async def scene():
        outbox = Outbox(4)
        reader = asyncio.create_task(outbox.take())
        await asyncio.sleep(5)
        outbox.put_all("abc")
        assert await reader == ["a", "b", "c"]
        outbox.put_all("de")
        assert outbox.room == 2
        assert not outbox.put_all("fgh")
        assert outbox.put_all("fg")
        assert outbox.full
        assert outbox.high_water == 4
        assert await outbox.take() == ["d", "e", "f", "g"]

    run(scene())


def test_nothing_put_is_no_beginning_and_wakes_nobody():
    async def scene():
        outbox = Outbox(1)
        reader = asyncio.create_task(outbox.take())
        await asyncio.sleep(5)
        outbox.put_all(())
        await asyncio.sleep(5)
        assert not reader.done()
        assert not outbox.opened
        outbox.close()
        await reader

    run(scene())


def test_what_comes_while_the_reader_waits_goes_straight_to_it_and_nobody_is_woken():
    async def scene():
        outbox, passed = Outbox(2), []
        outbox.straight = lambda events: passed.extend(events) or True
        await outbox.put("a")
        assert await outbox.take() == ["a"]
        reader = asyncio.create_task(outbox.take())
        await asyncio.sleep(5)
        await outbox.put("b")
        outbox.put_all("cd")
        assert not outbox.put_all("efg"), "more than there is room for goes nowhere"
        outbox.put_all(())
        await asyncio.sleep(5)
        assert passed == ["b", "c", "d"]
        assert not reader.done()
        assert outbox.high_water == 1
        outbox.close("end")
        assert await reader == ["end"]

    run(scene())


def test_what_cannot_go_straight_waits_and_what_follows_waits_behind_it():
    async def scene():
        outbox, open_to = Outbox(4), ["x"]
        outbox.straight = lambda events: list(events) == open_to
        reader = asyncio.create_task(outbox.take())
        await asyncio.sleep(5)
        outbox.put_all("a")
        outbox.put_all("x")
        assert await reader == ["a", "x"]

    run(scene())


def test_nothing_goes_straight_to_a_reader_that_is_being_cancelled():
    async def scene():
        outbox, passed = Outbox(4), []
        outbox.straight = lambda events: passed.extend(events) or True
        reader = asyncio.create_task(outbox.take())
        await asyncio.sleep(5)
        reader.cancel()
        outbox.put_all("a")
        await asyncio.wait([reader])
        assert passed == []
        assert await outbox.take() == ["a"]

    run(scene())


def test_a_full_queue_can_still_be_closed_with_last_words():
    async def scene():
        outbox = Outbox(1)
        await outbox.put("a")
        outbox.close("end")
        outbox.close("another end")
        assert outbox.closed
        assert not outbox.drained
        assert await outbox.take() == ["a", "end"]
        assert outbox.drained
        assert await outbox.take() == []

    run(scene())


def test_a_reader_that_waits_is_woken_by_the_end():
    async def scene():
        outbox = Outbox(1)
        reader = asyncio.create_task(outbox.take())
        await asyncio.sleep(5)
        outbox.close("end")
        assert await reader == ["end"]

    run(scene())


def test_without_last_words_the_end_is_nothing():
    async def scene():
        outbox = Outbox(1)
        outbox.close()
        assert await outbox.take() == []
        assert outbox.drained
        assert not outbox.opened

    run(scene())


def test_a_nudge_lets_a_reader_return_with_nothing_and_takes_no_event_s_place():
    async def scene():
        outbox = Outbox(2)
        reader = asyncio.create_task(outbox.take())
        await asyncio.sleep(5)
        outbox.nudge()
        outbox.nudge()
        assert await reader == []
        outbox.nudge()
        await outbox.put("a")
        outbox.nudge()
        assert await outbox.take() == ["a"]

    run(scene())


def test_what_is_discarded_is_gone_and_frees_its_producers():
    async def scene():
        outbox = Outbox(1)
        await outbox.put("a")
        outbox.close("end")
        outbox.discard()
        assert len(outbox) == 0
        assert outbox.drained

    run(scene())
