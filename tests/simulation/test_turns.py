"""Storms of turns, one for each seed: nothing leaks, nothing is counted twice, everybody is told how it ended."""

import asyncio
from functools import cache

import pytest

from service.chat.account import Account
from service.chat.live import Live
from service.errors import Cause
from service.runtime.outbox import Outbox
from service.runtime.place import Place
from telemetry import catalogue as rows
from tests.simulation.turns import Storm
from tests.support import proof_count

OUTCOMES = ("completed", "degraded", "rejected", "timed_out", "cancelled", "errored")


@cache
def house_after(seed):
    return Storm(seed).run()


@pytest.mark.parametrize("seed", range(proof_count(30, 500)))
def test_in_any_weather_every_turn_ends_once_and_nothing_is_left_of_it(seed):
    house = house_after(seed)
    assert house.requests() == len(house.clients) == 200


def test_the_storms_know_every_outcome_every_cause_and_most_reasons():
    """A proof is worth what it has met; a wait that outlasts its budget is so rare that it takes all the storms."""
    seen = [house_after(seed).recorder for seed in range(30)]

    def met(metric, *labels):
        return any(one.value(metric, *labels) for one in seen)

    assert all(met(rows.REQUESTS_TOTAL, "", outcome) for outcome in OUTCOMES)
    assert all(met(rows.CANCELLATIONS_TOTAL, "", cause) for cause in Cause)
    reasons = ("deadline", "unauthenticated", "forbidden", "timeout", "conflict", "provider_unavailable")
    assert all(met(rows.REJECTIONS_TOTAL, "", reason) for reason in reasons)
    for limit in ("phase", "total", "client"):
        assert met(rows.TIMEOUTS_TOTAL, "", limit)


def test_one_seed_is_one_storm():
    def traces(house):
        return [(span["name"], span["span_id"], span["attributes"]) for span in house.recorder.spans]

    first, second = Storm(3, turns=60).run(), Storm(3, turns=60).run()
    assert traces(first) == traces(second)
    assert [client.raw for client in first.clients] == [client.raw for client in second.clients]


# --- would it be seen? ------------------------------------------------------------------------------------------


def every(n):
    """Return a function that is true at every n-th call."""
    calls = iter(range(10**9))
    return lambda: next(calls) % n == n - 1


def a_place_is_kept_when_its_turn_is_cancelled(patch):
    release, now = Place.__exit__, every(5)

    def leaky(self, kind, error, trace):
        if not (kind is asyncio.CancelledError and now()):
            release(self, kind, error, trace)

    patch(Place, "__exit__", leaky)


def an_end_is_counted_twice(patch):
    close, now = Account.close, every(100)

    def twice(self):
        close(self)
        if now():
            close(self)

    patch(Account, "close", twice)


def an_event_follows_the_last(patch):
    close, now = Outbox.close, every(50)

    def chatty(self, last=None):
        close(self, last)
        if last is not None and now():
            take = self.take

            async def take_more():
                return [*await take(), last]

            patch(Outbox, "take", lambda outbox: take_more() if outbox is self else Outbox.original(outbox))

    patch(Outbox, "original", Outbox.take)
    patch(Outbox, "close", chatty)


def the_queue_has_no_bound(patch):
    start = Outbox.__init__
    patch(Outbox, "__init__", lambda self, bound: start(self, 10**9))


def a_turn_is_forgotten(patch):
    remove, now = Live.remove, every(150)

    def forgetful(self, turn):
        if not now():
            remove(self, turn)

    patch(Live, "remove", forgetful)


@pytest.mark.parametrize(
    "fault",
    [
        a_place_is_kept_when_its_turn_is_cancelled,
        an_end_is_counted_twice,
        an_event_follows_the_last,
        the_queue_has_no_bound,
        a_turn_is_forgotten,
    ],
    ids=lambda fault: fault.__name__,
)
def test_a_fault_that_is_planted_is_found_within_a_few_storms(fault, monkeypatch):

    def rage():
        for seed in range(5):
            Storm(seed).run()

    fault(lambda *what: monkeypatch.setattr(*what, raising=False))
    with pytest.raises((AssertionError, TimeoutError)):
        rage()
