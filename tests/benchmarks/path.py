"""The streaming path alone: the real flow, conduct, outbox, phases and door, with nothing around it.

No telemetry, no retrieval, nothing persisted, a model that says its tokens at a given rhythm.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace
from itertools import count
from random import Random

from service.api.chat import SseDoor
from service.api.turn_response import TurnResponse
from service.chat.parts import Gates, Parts
from service.ports import Begun, Finish, Principal, Scope
from service.providers.rows import ProviderRow
from service.routing import Routes
from service.runtime.gate import Gate
from service.runtime.world import World
from tests.benchmarks.silent import Silent
from tests.flow.house import House

RHYTHMS = {"turn": 1, "four": 4, "burst": 10**9}  # tokens between two turns of the loop


class Rhythmic:
    """A model that says `tokens` tokens, `at_once` of them in each turn of the loop."""

    name = "rhythmic"

    def __init__(self, tokens: int, at_once: int) -> None:
        self._tokens, self._at_once = tokens, at_once

    async def stream(self, request):
        for number in range(self._tokens):
            if number % self._at_once == 0:
                await asyncio.sleep(0)
            yield ("token ",)
        yield (Finish("stop"),)

    async def close(self):
        pass


class _Nothing:
    """A store and a policy that have nothing to say."""

    async def history(self, tenant, user, session_id, limit):
        return ()

    async def begin_turn(self, turn, on_commit):
        on_commit(Begun(turn.message_id, turn.user_message_id, turn.session_id))

    async def end_turn(self, ending, on_commit=None):
        if on_commit is not None:
            on_commit()
        return True

    async def scope(self, principal, action="chat"):
        return Scope(principal.tenant, frozenset())


class _Door(SseDoor):
    def parse(self, body):
        return replace(super().parse(body), retrieval=False)


def path_application(rhythm: str, tokens: int):
    """An ASGI application that is nothing but the path."""
    parts: list[Parts] = []

    async def application(scope, receive, send):
        if not parts:
            parts.append(_parts(Rhythmic(tokens, RHYTHMS[rhythm])))
        await TurnResponse(parts[0], _Door)(scope, receive, send)

    return application


def _parts(model: Rhythmic) -> Parts:
    """The parts that the tests of the flow use, with nothing in them but what every token passes."""
    numbers, observer, nothing = count(), Silent(), _Nothing()
    world = World(now=lambda: 0.0, new_id=lambda prefix: f"{prefix}_{next(numbers)}", random=Random(0))
    gate = Gate("requests", 100_000, queue=0, observer=observer)
    routes = Routes((ProviderRow("p", "simulated", ("m",)),), "m", world, {"p": gate}, observer)
    routes.add("p", model)
    who = Principal("t", "u", frozenset(), "k")

    async def authenticate(header, address):
        return who

    async def admit(turn, chosen):
        return chosen

    return replace(
        House().parts, world=world, observer=observer, authenticate=authenticate, admit=admit, policy=nothing,
        store=nothing, models=routes, gates=Gates(gate, gate, gate),
    )  # fmt: skip
