"""The HTTP clients and decoders that could stand between us and a provider: CPU for each stream that is read.

Each reads the same streams of a fake provider, chunk by chunk, and takes the text out. `ours` is the provider
`openai_compatible` as it is: aiohttp, our decoder of events, msgspec structs; `by hand` is httptools on a bare asyncio
transport with the same decoder, a floor that has no pool, no TLS, no proxies.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing, asynccontextmanager
from functools import partial

import aiohttp
import httptools
import httpx
import httpx2
import msgspec
import uvloop
from openai import AsyncOpenAI
from pydantic import BaseModel

from service.ports import ChatMessage, ModelRequest, Text
from service.providers.openai_chunks import ChunkReader
from service.providers.registry import Means, build
from service.providers.rows import ProviderRow
from service.providers.sse import SseDecoder
from tests.benchmarks.measure import Numbers, Server, interleaved, ratios, values
from tests.benchmarks.results import Result, Row
from tests.benchmarks.silent import Silent

CHUNKS = 100
STREAMS = 200
CONCURRENCY = 16
MESSAGES = [{"role": "user", "content": "Tell me something."}]
BODY = json.dumps({"model": "small", "messages": MESSAGES, "stream": True}).encode()
HEADERS = {"Content-Type": "application/json"}
PATH = "/v1/chat/completions"

Read = Callable[[], Awaitable[int]]
Decode = Callable[[bytes], str | None]


# --- decoders: the text of one payload, None for the end --------------------------------------------------------------


def _content(chunk: dict) -> str:
    choices = chunk["choices"]
    return choices[0]["delta"].get("content") or "" if choices else ""


def as_dict(payload: bytes) -> str | None:
    """The standard library's JSON."""
    return None if payload == b"[DONE]" else _content(json.loads(payload))


def as_dict_fast(payload: bytes) -> str | None:
    """msgspec's JSON, without types."""
    return None if payload == b"[DONE]" else _content(msgspec.json.decode(payload))


class _Delta(BaseModel):
    content: str | None = None


class _Choice(BaseModel):
    delta: _Delta


class _Chunk(BaseModel):
    choices: list[_Choice]


def as_model(payload: bytes) -> str | None:
    """A pydantic model, as the SDKs have one."""
    if payload == b"[DONE]":
        return None
    choices = _Chunk.model_validate_json(payload).choices
    return choices[0].delta.content or "" if choices else ""


# --- clients ----------------------------------------------------------------------------------------------------------


@asynccontextmanager
async def sdk(url: str) -> AsyncIterator[Read]:
    """OpenAI's SDK."""
    async with AsyncOpenAI(base_url=f"{url}/v1", api_key="k", max_retries=0) as client:

        async def read() -> int:
            stream = await client.chat.completions.create(model="small", messages=MESSAGES, stream=True)
            return sum([bool(chunk.choices and chunk.choices[0].delta.content) async for chunk in stream])

        yield read


@asynccontextmanager
async def over_httpx(url: str, *, library, decode: Decode) -> AsyncIterator[Read]:
    """httpx, or its successor, line by line."""
    limits = library.Limits(max_connections=CONCURRENCY)
    async with library.AsyncClient(limits=limits, trust_env=False, timeout=30) as client:

        async def read() -> int:
            found = 0
            async with client.stream("POST", url + PATH, content=BODY, headers=HEADERS) as answer:
                async for line in answer.aiter_lines():
                    if line.startswith("data: "):
                        found += bool(decode(line[6:].encode()))
            return found

        yield read


@asynccontextmanager
async def over_aiohttp(url: str, *, decode: Decode) -> AsyncIterator[Read]:
    """aiohttp, line by line."""
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=CONCURRENCY)) as session:

        async def read() -> int:
            found = 0
            async with session.post(url + PATH, data=BODY, headers=HEADERS) as answer:
                async for line in answer.content:
                    if line.startswith(b"data: "):
                        found += bool(decode(line[6:].rstrip()))
            return found

        yield read


@asynccontextmanager
async def ours(url: str) -> AsyncIterator[Read]:
    """The provider of the service."""
    row = ProviderRow("up", "openai_compatible", ("small",), base_url=f"{url}/v1", max_concurrency=CONCURRENCY)
    model = build(row, Means(Silent(), now=lambda: 0.0))
    request = ModelRequest("small", (ChatMessage("user", "Tell me something."),))

    async def read() -> int:
        found = 0
        async with aclosing(model.stream(request)) as reads:
            async for deltas in reads:
                found += sum(type(delta) is Text for delta in deltas)
        return found

    try:
        yield read
    finally:
        await model.close()


class _ByHand(asyncio.Protocol):
    """One request on one connection, the least that reads it."""

    def __init__(self) -> None:
        self.done = asyncio.get_running_loop().create_future()
        self._parser = httptools.HttpResponseParser(self)
        self._events, self._chunks = SseDecoder(), ChunkReader()
        self._found = 0

    def connection_made(self, transport) -> None:
        self._transport = transport
        head = (
            f"POST {PATH} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {len(BODY)}\r\n\r\n"
        )
        transport.write(head.encode() + BODY)

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_body(self, body: bytes) -> None:
        for payload in self._events.feed(body):
            self._found += sum(type(delta) is Text for delta in self._chunks.read(payload))

    def on_message_complete(self) -> None:
        self._transport.close()
        self.done.set_result(self._found)


@asynccontextmanager
async def by_hand(url: str) -> AsyncIterator[Read]:
    """httptools on a transport."""
    address = httpx.URL(url)

    async def read() -> int:
        _, protocol = await asyncio.get_running_loop().create_connection(_ByHand, address.host, address.port)
        return await protocol.done

    yield read


VARIANTS = {
    "the openai SDK": sdk,
    "httpx, json": partial(over_httpx, library=httpx, decode=as_dict),
    "httpx2, json": partial(over_httpx, library=httpx2, decode=as_dict),
    "aiohttp, pydantic": partial(over_aiohttp, decode=as_model),
    "aiohttp, json": partial(over_aiohttp, decode=as_dict),
    "aiohttp, msgspec": partial(over_aiohttp, decode=as_dict_fast),
    "ours": ours,
    "by hand": by_hand,
}


# --- measuring --------------------------------------------------------------------------------------------------------


def once(variant, url: str) -> Numbers:
    """Milliseconds of this process's CPU for each stream, and streams a second."""

    async def main() -> None:
        async with variant(url) as read:
            left = STREAMS

            async def reader() -> None:
                nonlocal left
                while left > 0:
                    left -= 1
                    assert await read() == CHUNKS

            await asyncio.gather(*(reader() for _ in range(CONCURRENCY)))

    wall, cpu = time.perf_counter(), time.process_time()
    uvloop.run(main())
    return {
        "CPU": (time.process_time() - cpu) * 1e3 / STREAMS,
        "streams": STREAMS / (time.perf_counter() - wall),
    }


def run(rounds: int = 7) -> Result:
    """Measure it."""
    with Server("upstream") as server:
        found = interleaved({name: partial(once, variant, server.url) for name, variant in VARIANTS.items()}, rounds)
    rows = [Row("ours: ms of CPU per stream", values(found, "ours", "CPU"))]
    rows += [Row(f"{name}: CPU, of ours", ratios(found, name, "ours", "CPU")) for name in VARIANTS if name != "ours"]
    about = f"{rounds} rounds of {STREAMS} streams of {CHUNKS} chunks, {CONCURRENCY} at once"
    return Result("Clients of a provider", __doc__, about, rows)


if __name__ == "__main__":
    sys.stdout.write(run().page())
