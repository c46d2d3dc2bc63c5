"""The queue between producer and reader, in any order of events: nothing is lost, doubled or out of order."""

import asyncio

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from service.runtime.outbox import Outbox
from tests.support import proof_count
from tests.virtual_loop import VirtualLoop


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
