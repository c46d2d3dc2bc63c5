"""Tools that remember what they did, and models that ask for what they are told: for the tests of tool calls."""

from __future__ import annotations

import asyncio
import json
from collections import Counter

from service.calls import Tool
from service.errors import ProviderFailure
from service.ports import Finish, ToolCall, ToolCallDelta, ToolSpec, Usage

SCHEMA = {
    "type": "object",
    "properties": {"case_id": {"type": "string", "pattern": "^C-[0-9]+$"}, "note": {"type": "string"}},
    "required": ["case_id"],
    "additionalProperties": False,
}


class Recorder:
    """A tool's inside: counts what it did by key, takes `seconds` for it, and fails as it is told to."""

    def __init__(self, *, seconds=0.0, errors=()):
        self.seconds, self.errors = seconds, list(errors)
        self.begun, self.done = Counter(), Counter()
        self.running = self.most_running = 0

    async def run(self, use):
        self.begun[use.key] += 1
        self.running += 1
        self.most_running = max(self.most_running, self.running)
        try:
            if self.seconds:
                await asyncio.sleep(self.seconds)
            if self.errors and (error := self.errors.pop(0)) is not None:
                raise error
            self.done[use.key] += 1
            return {"done": use.arguments["case_id"]}
        finally:
            self.running -= 1

    async def lookup(self, use):
        return {"found": use.arguments["case_id"]} if self.done[use.key] else None

    def tool(self, name="act", **more):
        """The tool, which changes something unless told otherwise."""
        more = {"side_effects": True, "shows": frozenset({"case_id"}), "resource": "case_id"} | more
        return Tool(ToolSpec(name, "Does it.", SCHEMA), self.run, **more)


class Asks:
    """A model that asks for the calls of each round, one list a round, then answers; it keeps what it was told.

    Its first `failing` answers fail, after the calls were made; it `thinks` for so many seconds before each round.
    """

    name = "simulated"

    def __init__(self, *rounds, answer="Done [1].", failing=0, thinks=0.0):
        self.rounds, self.answer, self.failing, self.thinks = rounds, answer, failing, thinks
        self.requests = []
        self.open = 0

    @property
    def told(self):
        """What the tools' results said, in order."""
        return [json.loads(message.content) for message in self.requests[-1].messages if message.role == "tool"]

    async def stream(self, request):
        self.requests.append(request)
        await asyncio.sleep(self.thinks)
        asked = self.rounds[request.round] if request.round < len(self.rounds) else ()
        for index, call in enumerate(asked):
            yield (ToolCallDelta(index, call.id, call.name, call.arguments),)
        if asked:
            yield (Finish("tool_calls"),)
        elif self.failing:
            self.failing -= 1
            raise ProviderFailure("5xx")
        else:
            yield (self.answer,)
            yield (Finish("stop"),)
        yield (Usage(10, 5),)

    async def close(self):
        pass


def call(name="act", number=1, **arguments):
    """A call as a model asks for it."""
    return ToolCall(f"call_{number}", name, json.dumps(arguments or {"case_id": "C-1042"}))
