"""The queue between producer and reader: bounded, in order, and always able to say how it ended."""

import asyncio

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from service.runtime.outbox import Outbox
from tests.support import proof_count
from tests.virtual_loop import VirtualLoop, run


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


class AnyOrder(RuleBasedStateMachine):
    """Puts, takes, nudges, cancellations and an end, in whatever order hypothesis thinks of."""

    BOUND = 3

    def __init__(self):
        super().__init__()
        self.loop = VirtualLoop(seed=0)
        self.outbox = Outbox(self.BOUND)
        self.producers, self.reader = {}, None  # a producer has at most one put under way
        self.sent, self.taken, self.number = [], [], 0
        self.outbox.straight, self.keeps_up = self.straight, False

    def teardown(self):
        for task in (*(task for task, _ in self.producers.values()), *([self.reader] if self.reader else [])):
            task.cancel()
        self.settle()
        self.loop.close()

    def settle(self, *calls):
        async def steps():
            for call in calls:
                call()
            for _ in range(8):
                await asyncio.sleep(0)

        self.loop.run_until_complete(steps())
        for name, (task, event) in [*self.producers.items()]:
            if task.done():
                del self.producers[name]
                if not task.cancelled():
                    self.sent.append(event)
        if self.reader is not None and self.reader.done():
            if not self.reader.cancelled():
                self.taken += self.reader.result()
            self.reader = None

    @precondition(lambda self: not self.outbox.closed)
    @rule(name=st.sampled_from("AB"))
    def a_producer_puts(self, name):
        if name in self.producers:
            return
        event = self.next(name)

        def put():
            self.producers[name] = (self.loop.create_task(self.outbox.put(event)), event)

        self.settle(put)

    @precondition(lambda self: not self.outbox.closed)
    @rule(number=st.integers(0, BOUND))
    def many_are_put_where_there_is_room(self, number):
        if number <= self.outbox.room:
            events = [self.next("D") for _ in range(number)]
            self.sent += events
            self.settle(lambda: self.outbox.put_all(events))

    def straight(self, events):
        if self.keeps_up:
            self.taken += events
        return self.keeps_up

    @rule(keeps_up=st.booleans())
    def the_reader_keeps_up_or_does_not(self, keeps_up):
        self.keeps_up = keeps_up

    def next(self, name):
        self.number += 1
        return (name, self.number)

    @precondition(lambda self: self.reader is None)
    @rule()
    def the_reader_takes(self):
        def take():
            self.reader = self.loop.create_task(self.outbox.take())

        self.settle(take)

    @rule()
    def somebody_nudges(self):
        self.settle(self.outbox.nudge)

    @precondition(lambda self: self.producers)
    @rule(pick=st.integers(0, 9))
    def a_producer_is_cancelled(self, pick):
        waiting = [task for task, _ in self.producers.values()]
        self.settle(waiting[pick % len(waiting)].cancel)

    @precondition(lambda self: self.reader is not None)
    @rule(and_put=st.booleans())
    def the_reader_is_cancelled(self, and_put):
        if and_put and not self.outbox.closed and not self.outbox.full:
            self.sent.append(self.next("C"))
            self.settle(lambda: self.outbox.put_nowait(self.sent[-1]), self.reader.cancel)
        else:
            self.settle(self.reader.cancel)

    @precondition(lambda self: not self.producers)
    @rule()
    def it_ends(self):
        if not self.outbox.closed:
            self.sent.append(self.next("end"))
            self.settle(lambda: self.outbox.close(self.sent[-1]))

    @invariant()
    def nothing_is_lost_doubled_or_out_of_order_and_the_bound_is_kept(self):
        assert len(self.outbox) <= self.BOUND
        for producer in "ABCD":
            mine = [number for name, number in self.taken if name == producer]
            assert mine == sorted(mine)
        assert "end" not in [name for name, _ in self.taken[:-1]]
        assert len(set(self.taken)) == len(self.taken)
        assert set(self.taken) <= set(self.sent)
        if self.outbox.drained:
            assert set(self.taken) == set(self.sent)
        if self.reader is not None:
            assert not self.outbox.closed, "a reader is never left waiting after the end"
            assert len(self.outbox) == 0, "a reader never waits while there is something"


TestAnyOrder = AnyOrder.TestCase
TestAnyOrder.settings = settings(max_examples=proof_count(100, 1500), stateful_step_count=40, deadline=None)
