"""What the environment says of proxies and of passwords, and what becomes of it on the way to services elsewhere."""

import asyncio
from contextlib import aclosing

import pytest

from service.ports import ChatMessage, ModelRequest, Scope, Text
from service.providers.registry import Means, build
from service.providers.rows import ProviderRow
from service.retrieval.suggestions import SuggestionService
from service.runtime.proxies import proxy_for
from telemetry.testing import recording_observer
from tests.contract.provider_server import Answer, provider, recorded
from tests.contract.suggestion_server import SuggestionServer

ELSEWHERE = "http://elsewhere.invalid"
OBSERVER = recording_observer()[0]


@pytest.fixture(autouse=True)
def netrc(monkeypatch, tmp_path):
    """A password for every host there is, as tools of the shell keep them."""
    path = tmp_path / "netrc"
    path.write_text("default login somebody password else\n")
    path.chmod(0o600)
    monkeypatch.setenv("NETRC", str(path))


@pytest.fixture
def proxied(monkeypatch):
    """Name a proxy for everything but `own.invalid`."""

    def through(url):
        monkeypatch.setenv("http_proxy", url)
        monkeypatch.setenv("no_proxy", "own.invalid")

    return through


def test_a_proxy_is_for_what_is_elsewhere_and_not_exempt(proxied):
    proxied("http://proxy.invalid:3128")
    assert proxy_for(ELSEWHERE) == "http://proxy.invalid:3128"
    for near in ("http://127.0.0.1:9000/v1", "http://[::1]/", "http://localhost/", "http://own.invalid/"):
        assert proxy_for(near) is None


@pytest.mark.parametrize("kind", ["openai_compatible", "anthropic"])
def test_a_provider_elsewhere_is_asked_through_the_proxy_with_our_key_and_no_password_of_the_netrc(kind, proxied):
    name, header, key = {
        "openai_compatible": ("openai_text.sse", "authorization", "Bearer the-key"),
        "anthropic": ("anthropic_text.sse", "x-api-key", "the-key"),
    }[kind]

    async def scenario():
        async with provider(Answer(recorded(name))) as server:
            proxied(server.base_url)
            row = ProviderRow("upstream", kind, ("small",), base_url=f"{ELSEWHERE}/v1")
            model = build(row, Means(OBSERVER, now=lambda: 0.0, key="the-key"))
            try:
                async with aclosing(model.stream(ModelRequest("small", (ChatMessage("user", "Hello"),)))) as deltas:
                    seen = [delta async for said in deltas for delta in said]
            finally:
                await model.close()
            return seen, server.asked[0].headers

    seen, headers = asyncio.run(scenario())
    assert any(isinstance(delta, Text) for delta in seen)
    assert (headers["host"], headers[header]) == ("elsewhere.invalid", key)
    assert not headers.get("authorization", "").startswith("Basic")


@pytest.mark.parametrize("elsewhere", [True, False])
def test_a_service_of_suggestions_gets_our_key_and_no_password_of_the_netrc(elsewhere, proxied):
    with SuggestionServer() as server:
        proxied(server.url)

        async def scenario():
            url = f"{ELSEWHERE}/suggest" if elsewhere else server.url
            service = SuggestionService(url, "s3cret", 30.0, OBSERVER)
            await service.open()
            try:
                return await service.query("What?", Scope("demo", frozenset({"internal"})), 3)
            finally:
                await service.close()

        assert len(asyncio.run(scenario())) == 1
        ((headers, _),) = server.asked
        assert headers["Authorization"] == "Bearer s3cret"
        assert headers["Host"].startswith("elsewhere.invalid" if elsewhere else "127.0.0.1")
