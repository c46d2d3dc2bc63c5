"""The streaming path alone, for the benchmarks: the real flow, conduct, outbox, phases and door, with nothing around it.

No telemetry, no retrieval, nothing persisted, a model that says its tokens at a given rhythm.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace
from itertools import count
from random import Random

from opentelemetry.trace import NoOpTracerProvider

from service.api.chat import SseDoor
from service.api.turn_response import TurnResponse
from service.chat.parts import Chosen, Gates, Habits, Parts
from service.chat.turn import Budgets
from service.ports import Finish, ModelRequest, Principal, Scope, Text
from service.runtime.gate import Gate
from service.runtime.world import World
from service.settings_groups import BudgetSettings
from service.translate import budgets_of
from telemetry.observe import Observer

RHYTHMS = {"turn": 1, "four": 4, "burst": 10**9}  # tokens between two turns of the loop


class Silent(Observer):
    """Telemetry off."""

    def __init__(self):
        super().__init__(NoOpTracerProvider(), None, None)

    def inc(self, metric, *labels, by=1.0):
        pass

    def add(self, metric, amount, *labels):
        pass

    def set(self, metric, value, *labels):
        pass

    def record(self, metric, value, *labels, span=None):
        pass

    def log(self, event, **fields):
        pass


class Rhythmic:
    """A model that says `tokens` tokens, `at_once` of them in each turn of the loop."""

    name = "rhythmic"

    def __init__(self, tokens: int, at_once: int) -> None:
        self._tokens, self._at_once = tokens, at_once

    async def stream(self, request):
        for number in range(self._tokens):
            if number % self._at_once == 0:
                await asyncio.sleep(0)
            yield Text("token ")
        yield Finish("stop")

    async def close(self):
        pass


class _Nothing:
    """A store and a policy that have nothing to say."""

    async def history(self, tenant, user, session_id, limit):
        return ()

    async def begin_turn(self, turn):
        pass

    async def end_turn(self, ending, on_commit=None):
        if on_commit is not None:
            on_commit()
        return True

    async def scope(self, principal, action="chat"):
        return Scope(principal.tenant, frozenset())

    def may_read(self, principal, document):
        return True


class _Door(SseDoor):
    def parse(self, body):
        return replace(super().parse(body), retrieval=False)


def path_application(rhythm: str, tokens: int):
    """An ASGI application that is nothing but the path."""
    numbers = count()
    observer = Silent()
    world = World(now=lambda: 0.0, new_id=lambda prefix: f"{prefix}_{next(numbers)}", random=Random(0))
    gate = Gate("requests", 100_000, queue=0, observer=observer)
    chosen = Chosen("m", "m", "p", Rhythmic(tokens, RHYTHMS[rhythm]), gate)
    who = Principal("t", "u", frozenset(), "k")
    nothing = _Nothing()

    class Models:
        def choose(self, model_id):
            return chosen

    async def authenticate(header, address):
        return who

    def assemble(*_args):
        return ModelRequest("m", ())

    parts: list[Parts] = []

    async def application(scope, receive, send):
        if not parts:
            budgets: Budgets = budgets_of(BudgetSettings())
            parts.append(
                Parts(
                    world=world, observer=observer, authenticate=authenticate, policy=nothing, store=nothing,
                    retriever=nothing, reranker=nothing, models=Models(), gates=Gates(gate, gate, gate),
                    habits=Habits(), budgets=budgets, instance_id="i", assemble=assemble, admit=lambda turn: None,
                )  # fmt: skip
            )
        await TurnResponse(parts[0], _Door)(scope, receive, send)

    return application


