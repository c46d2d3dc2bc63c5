"""Connections to a provider: nobody there, kept, replaced, and not tried again in silence."""

from __future__ import annotations

import asyncio
from contextlib import aclosing

import pytest
from aiohttp.client_proto import ResponseHandler

from service.errors import ProviderFailure
from service.ports import Delta
from service.providers.registry import Means, build
from service.providers.rows import ProviderRow
from tests.contract.asking import NOW, OBSERVER, REQUEST, ask, openai, text_of
from tests.contract.provider_server import Answer, provider, recorded


def test_nobody_there_is_a_failure_to_connect():
    async def scenario() -> None:
        async with provider() as server:
            address = server.base_url
        model = build(
            ProviderRow("gone", "openai_compatible", ("small",), base_url=address), Means(OBSERVER, now=lambda: NOW)
        )
        with pytest.raises(ProviderFailure) as failure:
            async with aclosing(model.stream(REQUEST)) as deltas:
                await anext(deltas)
        await model.close()
        assert (failure.value.kind, failure.value.retry_safe) == ("connect", True)

    asyncio.run(scenario())


@pytest.mark.parametrize("kind", ["openai_compatible", "anthropic"])
def test_a_connection_is_kept_after_an_answer_that_was_read_to_its_end(kind: str):
    name = "openai_text.sse" if kind == "openai_compatible" else "anthropic_text.sse"
    _, _, server = ask(kind, *[Answer(recorded(name))] * 3, requests=(REQUEST,) * 3)
    assert [asked.connection for asked in server.asked] == [1, 1, 1]


def test_a_kept_connection_that_turns_out_to_be_dead_is_replaced():
    whole = recorded("openai_text.sse")

    async def scenario() -> int:
        async with provider(Answer(whole), Answer(silent=True, then="cut"), Answer(whole)) as server:
            row = ProviderRow("upstream", "openai_compatible", ("small",), base_url=server.base_url)
            model = build(row, Means(OBSERVER, now=lambda: NOW))
            for _ in range(2):
                async with aclosing(model.stream(REQUEST)) as deltas:
                    assert text_of([delta async for said in deltas for delta in said]) == "Grüß dich 👋"
            await model.close()
            return server.connections

    assert asyncio.run(scenario()) == 2


def test_a_new_connection_that_dies_is_a_failure_and_is_not_tried_again_in_silence():
    _, failure, server = openai(Answer(silent=True, then="cut"), Answer(recorded("openai_text.sse")))
    assert (failure.kind, failure.retry_safe) == ("connect", True)
    assert len(server.asked) == 1


@pytest.mark.parametrize("chunks", [100, 4_000])
def test_chunks_are_parsed_once_and_reading_that_was_paused_goes_on(chunks: int, monkeypatch: pytest.MonkeyPatch):
    looked_again, paused = [], []
    receive, pause = ResponseHandler.data_received, ResponseHandler.pause_reading

    def data_received(self: ResponseHandler, data: bytes) -> None:
        looked_again.extend([] if data else [self])
        receive(self, data)

    def pause_reading(self: ResponseHandler) -> None:
        paused.append(self)
        pause(self)

    monkeypatch.setattr(ResponseHandler, "data_received", data_received)
    monkeypatch.setattr(ResponseHandler, "pause_reading", pause_reading)
    word = "word" * 50
    token = b'data: {"choices":[{"delta":{"content":"%b"}}]}\n\n' % word.encode()
    body = token * chunks + b"data: [DONE]\n\n"

    async def scenario() -> str:
        said: list[Delta] = []
        async with provider(Answer(body, piece=len(token))) as server:
            row = ProviderRow("upstream", "openai_compatible", ("small",), base_url=server.base_url)
            model = build(row, Means(OBSERVER, now=lambda: NOW))
            async with aclosing(model.stream(REQUEST)) as reads:
                async for deltas in reads:
                    said += deltas
                    for _ in range(20):  # a slow reader: meanwhile more arrives
                        await asyncio.sleep(0)
            await model.close()
        return text_of(said)

    assert asyncio.run(scenario()) == word * chunks
    assert bool(paused) == (chunks > 100), "more at once than is taken, or not"
    assert len(looked_again) <= len(paused)
