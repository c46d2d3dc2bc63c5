"""One provider, asked once or more often: its deltas, its failure, and what its server saw."""

from __future__ import annotations

import asyncio
from contextlib import aclosing

from service.errors import ProviderFailure
from service.ports import ChatMessage, Delta, ModelRequest, Text
from service.providers.registry import Means, build
from service.providers.rows import ProviderRow
from telemetry.testing import recording_observer
from tests.contract.provider_server import Answer, Provider, provider

OBSERVER = recording_observer()[0]
NOW = 1_700_000_000.0
REQUEST = ModelRequest("small", (ChatMessage("user", "Hello"),))
DEEP = b"[" * 3_000  # more than an interpreter's stack


def ask(kind: str, *answers: Answer, requests: tuple[ModelRequest, ...] = (REQUEST,), **row):
    """Ask one provider; return its deltas, the failure if one came, and the server's side of the story."""

    async def scenario() -> tuple[list[Delta], ProviderFailure | None, Provider]:
        seen: list[Delta] = []
        async with provider(*answers) as server:
            configured = ProviderRow("upstream", kind, ("small",), base_url=f"{server.base_url}/v1", **row)
            model = build(configured, Means(OBSERVER, now=lambda: NOW, key="the-key"))
            try:
                for request in requests:
                    async with aclosing(model.stream(request)) as deltas:
                        async for said in deltas:
                            seen += said
            except ProviderFailure as failure:
                return seen, failure, server
            finally:
                await model.close()
        return seen, None, server

    return asyncio.run(scenario())


def openai(*answers: Answer, **more):
    return ask("openai_compatible", *answers, **more)


def anthropic(*answers: Answer, **more):
    return ask("anthropic", *answers, **more)


def text_of(deltas: list[Delta]) -> str:
    return "".join(delta for delta in deltas if isinstance(delta, Text))
