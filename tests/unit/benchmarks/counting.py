"""Counts what one whole turn does, in a service in virtual time: no clock is asked, so every machine counts alike."""

from __future__ import annotations

import asyncio
import sys
import tracemalloc
from collections import Counter
from contextlib import ExitStack, contextmanager
from functools import cache, partial
from pathlib import Path
from unittest.mock import patch

import service
import telemetry
from service.api.chat import SseDoor
from service.api.openai_compat import OpenAIDoor
from service.ports import Finish
from tests.flow.client import Client
from tests.flow.house import in_house

OURS = tuple(f"{Path(package.__file__).parent}/" for package in (service, telemetry))
QUESTION = "What is case C-1042 about?"
RELAYED = {"model": "sim", "stream": True, "messages": [{"role": "user", "content": QUESTION}]}
PAUSE = 0.001  # virtual seconds before each word: the one before it has been written


class Speaker:
    """A model that says `tokens` words, so many of them `at_once`, after a pause that is a timer: each has a write."""

    name = "simulated"

    def __init__(self, tokens, at_once=1):
        self._tokens, self._at_once = tokens, at_once
        self.memory = {}  # what `blocks_of_ours` found, by how many words had been said
        self.look_at = ()

    async def stream(self, request):
        for number in range(0, self._tokens, self._at_once):
            await asyncio.sleep(PAUSE)
            if number in self.look_at:
                self.memory[number] = blocks_of_ours()
            yield [f"word{number + place} " for place in range(self._at_once)]
        yield (Finish("stop"),)

    async def close(self):
        pass


class _Reader(Client):
    """Reads whichever format it gets."""

    def assert_sound(self):
        assert (self.status, self.ended) == (200, True)


async def ask(house, way):
    """One client's whole turn, through the door of `/chat/stream` or as a relay through OpenAI's."""
    if way == "chat":
        client, door = house.client(QUESTION), SseDoor
    else:
        client, door = _Reader(RELAYED), partial(OpenAIDoor, world=house.world, retrieval=False)
    await house.connect(client, door)
    return client


@cache
def counted(way, tokens, at_once=1):
    """What a turn of so many tokens does: calls, by what they are."""

    async def scenario(house):
        house.routes.add("simulated", Speaker(tokens, at_once))
        await ask(house, way)  # what is done once in a process is done
        counts = Counter()
        spans, lines = len(house.recorder.spans), len(house.recorder.logs)
        with counting(house, counts):
            client = await ask(house, way)
        counts["writes"] = client.writes
        counts["spans"] = len(house.recorder.spans) - spans
        counts["log lines"] = len(house.recorder.logs) - lines
        return counts

    return in_house(scenario)


@contextmanager
def counting(house, counts):
    """Count what is called within the block."""
    watched = {
        "metric updates": [(house.observer, name) for name in ("inc", "add", "set", "record")],
        "timers": [(asyncio.get_running_loop(), "call_at")],
        "tasks": [(asyncio.get_running_loop(), "create_task")],
    }
    with ExitStack() as stack:
        for what, functions in watched.items():
            for owner, name in functions:
                stack.enter_context(patch.object(owner, name, _counted(getattr(owner, name), counts, what)))
        stack.callback(house.driver._db.set_trace_callback, None)
        house.driver._db.set_trace_callback(lambda _statement: counts.update(("statements",)))
        stack.enter_context(_counting_calls(counts))
        yield


@contextmanager
def _counting_calls(counts):
    before = sys.getprofile()
    sys.setprofile(lambda frame, event, _: counts.update(("calls",)) if _ours(frame, event) else None)
    try:
        yield
    finally:
        sys.setprofile(before)


def calls_of(step):
    """How many functions of ours `step()` calls, or resumes."""
    counts = Counter()
    with _counting_calls(counts):
        step()
    return counts["calls"]


def _counted(function, counts, what):
    def counted_call(*args, **kwargs):
        counts[what] += 1
        return function(*args, **kwargs)

    return counted_call


def _ours(frame, event):
    return event == "call" and frame.f_code.co_filename.startswith(OURS)


def memory_growth(way, few, many):
    """Blocks of memory, made by our code, that are alive after `many` tokens of a turn and were not after `few`."""

    async def scenario(house):
        await ask(house, way)
        speaker = Speaker(many + 1)
        speaker.look_at = (few, many)
        house.routes.add("simulated", speaker)
        tracemalloc.start()
        try:
            await ask(house, way)
        finally:
            tracemalloc.stop()
        return speaker.memory[many] - speaker.memory[few]

    return in_house(scenario)


def blocks_of_ours():
    """Blocks of memory that code of ours has made and that are alive, by file and line; tracemalloc must run."""
    only = [tracemalloc.Filter(True, f"{folder}*") for folder in OURS]
    lines = tracemalloc.take_snapshot().filter_traces(only).statistics("lineno")
    return Counter({str(line.traceback): line.count for line in lines})
