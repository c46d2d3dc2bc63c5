"""Completions at the OpenAI door, by a client that reads OpenAI's wire format."""

import json
from dataclasses import dataclass
from functools import partial

from service.api.openai_compat import OpenAIDoor
from service.ports import Finish, Text, Usage
from tests.flow.client import Client
from tests.flow.house import in_house
from tests.flow.parts import Says

ROUTE = "/v1/chat/completions"
WELL = (Text("All is "), Text("well."), Finish("stop"), Usage(7, 3))
ASKED = [{"role": "user", "content": "How is it?"}]


@dataclass
class OpenAIClient(Client):
    """Reads OpenAI's wire format."""

    @property
    def lines(self):
        """Every line of the stream that is not empty."""
        return [line for line in self.raw.decode().split("\n") if line]

    @property
    def chunks(self):
        return [json.loads(line.removeprefix("data: ")) for line in self.lines if line.startswith("data: {")]

    @property
    def deltas(self):
        return [chunk["choices"][0]["delta"] for chunk in self.chunks if chunk.get("choices")]

    @property
    def said(self):
        return "".join(delta.get("content") or "" for delta in self.deltas)

    @property
    def whole(self):
        assert self.answer_headers["content-type"] == "application/json"
        return json.loads(self.raw)

    @property
    def error(self):
        return self.whole["error"]

    def assert_sound(self):
        if self.status == 200 and self.lines and self.lines[0].startswith(("data:", ":")) and self.ended:
            last = self.lines[-1]
            assert ("error" in json.loads(last[6:])) if last.startswith("data: {") else last == "data: [DONE]"


def completing(house, client, *, retrieval=False):
    return house.connect(client, partial(OpenAIDoor, world=house.world, retrieval=retrieval))


def ask(*deltas, rows=None, headers=None, retrieval=False, **body):
    """One completion of a model that answers so; return the client and the house."""

    async def scenario(house):
        if deltas:
            house.model._model = Says(*deltas)
        client = OpenAIClient({"model": "sim", "messages": ASKED, **body}, headers=headers or {})
        await completing(house, client, retrieval=retrieval)
        return client, house

    return in_house(scenario, rows=rows)
