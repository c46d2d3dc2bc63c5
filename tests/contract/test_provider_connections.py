"""Connections to a provider: nobody there, kept, replaced, and not tried again in silence."""

from __future__ import annotations

import asyncio
from contextlib import aclosing

import pytest

from service.errors import ProviderFailure
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
