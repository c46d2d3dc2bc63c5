"""What a turn and a token may cost, in counts: no clock is asked, so a regression fails here on every machine alike.

Counted in a whole service in virtual time, over turns of few and of many tokens: what is the same in both is the turn's,
what grows is the token's. A number that has to rise is raised here, with the reason in the commit.
"""

import asyncio
import contextlib
import sys
import tracemalloc
from collections import Counter
from functools import cache
from unittest.mock import patch

import pytest

from tests.benchmarks.path import Rhythmic
from tests.flow.house import in_house
from tests.virtual_loop import VirtualLoop

FEW, MANY = 100, 300  # tokens

TURN = {
    "spans": 0,
    "metric updates": 0,
    "log lines": 0,
    "timers": 0,
    "tasks": 0,
    "statements": 0,
    "writes": 0,
    "calls": 0,
}
TOKEN = {
    "spans": 0,
    "metric updates": 0,
    "log lines": 0,
    "timers": 0,
    "tasks": 0,
    "statements": 0,
    "writes": 1,
    "calls": 0,
}


@cache
def counted(tokens):
    """What one whole turn of so many tokens does."""

    async def scenario(house):
        house.routes.add("simulated", Rhythmic(tokens, 1))
        await house.chat()  # what is done once in a process is done
        counts = Counter()
        spans, lines = len(house.recorder.spans), len(house.recorder.logs)
        with contextlib.ExitStack() as stack:
            for owner, name, what in (
                *((house.observer, name, "metric updates") for name in ("inc", "add", "set", "record")),
                (asyncio.get_running_loop(), "call_at", "timers"),
                (asyncio.get_running_loop(), "create_task", "tasks"),
            ):
                stack.enter_context(patch.object(owner, name, counting(getattr(owner, name), counts, what)))
            stack.callback(house.driver._db.set_trace_callback, None)
            house.driver._db.set_trace_callback(lambda _statement: counts.update(("statements",)))
            stack.callback(sys.setprofile, sys.getprofile())
            sys.setprofile(lambda frame, event, _: counts.update(("calls",)) if ours(frame, event) else None)
            client = await house.chat()
            sys.setprofile(None)
        counts["writes"] = client.writes
        counts["spans"] = len(house.recorder.spans) - spans
        counts["log lines"] = len(house.recorder.logs) - lines
        assert client.types[-1] == "message_completed"
        return counts

    return in_house(scenario)


def counting(function, counts, what):
    def counted_call(*args, **kwargs):
        counts[what] += 1
        return function(*args, **kwargs)

    return counted_call


def ours(frame, event):
    return event == "call" and ("/service/" in frame.f_code.co_filename or "/telemetry/" in frame.f_code.co_filename)


@pytest.mark.parametrize(("what", "allowed"), TOKEN.items())
def test_a_token_costs_no_more_than_this(what, allowed):
    grown = (counted(MANY)[what] - counted(FEW)[what]) / (MANY - FEW)
    assert grown <= allowed, f"{grown} {what} for each token, of {allowed} allowed"


@pytest.mark.parametrize(("what", "allowed"), TURN.items())
def test_a_turn_costs_no_more_than_this(what, allowed):
    each = (counted(MANY)[what] - counted(FEW)[what]) / (MANY - FEW)
    of_turn = counted(FEW)[what] - FEW * each
    assert of_turn <= allowed, f"{of_turn} {what} for each turn, of {allowed} allowed"
