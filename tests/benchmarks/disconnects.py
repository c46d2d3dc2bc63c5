"""How soon the upstream is closed after a client has gone, with 500 streams running beside it.

The upstream and the clients that leave live in this process and look at one clock; those that stay are another's.
"""

from __future__ import annotations

import asyncio
import json
import re
from itertools import count

from tests.benchmarks.load import load
from tests.benchmarks.measure import Server, free_port
from tests.benchmarks.results import Result, Row
from tests.benchmarks.servers import chunked, length_of
from tests.benchmarks.service import HEADERS, KEY, WIDE, Forebay, traced, upstream

STAYING = 500
LEAVING = 300
TOKEN_EVERY = 0.1  # seconds
TOGETHER = 10  # who leave at the same time
CHUNK = chunked(b'data: {"choices":[{"index":0,"delta":{"content":"token "},"finish_reason":null}]}\n\n')


class _Upstream(asyncio.Protocol):
    """Answers with a token now and then, for ever, and notes when whose connection was closed."""

    closed: dict[str, asyncio.Future] = {}  # noqa: RUF012  (of all connections)

    def connection_made(self, transport):
        self._transport, self._received, self._timer = transport, b"", None
        self._who = ""

    def data_received(self, data):
        self._received += data
        head, found, rest = self._received.partition(b"\r\n\r\n")
        if not found or len(rest) < length_of(head):
            return
        named = re.search(rb"client-(\d+)", rest)
        self._who = named[1].decode() if named else ""
        self._transport.write(
            b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
        )
        self._say()

    def _say(self):
        self._transport.write(CHUNK)
        self._timer = asyncio.get_running_loop().call_later(TOKEN_EVERY, self._say)

    def connection_lost(self, exc):
        if self._timer is not None:
            self._timer.cancel()
        if (noted := self.closed.get(self._who)) is not None and not noted.done():
            noted.set_result(asyncio.get_running_loop().time())


def run(leaving: int = LEAVING) -> Result:
    """Measure it."""
    port = free_port()
    took = asyncio.run(_measure(port, leaving))
    took.sort()
    rows = [
        Row("ms from the client's end to the upstream's, median", took[len(took) // 2] * 1e3),
        Row("p99", took[int(len(took) * 0.99)] * 1e3, "≤ 50"),
        Row("the longest", took[-1] * 1e3),
    ]
    about = (
        f"{leaving} clients that leave, {TOGETHER} at once, beside {STAYING} streams of {1 / TOKEN_EVERY:.0f} tokens/s"
    )
    return Result("A disconnect closes the upstream", __doc__, about, rows)


async def _measure(port: int, leaving: int) -> list[float]:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(_Upstream, "127.0.0.1", port)
    with Server("collector") as collector:
        config = traced(collector.url, 0.1) + upstream(f"http://127.0.0.1:{port}") + WIDE
        forebay = await asyncio.to_thread(Forebay, config)
        with forebay:
            staying = asyncio.create_task(asyncio.to_thread(_stay, forebay.url))
            await asyncio.sleep(6.0)
            numbers = count()
            took: list[float] = []
            while len(took) < leaving:
                took += await asyncio.gather(*[_leave(forebay.port, next(numbers)) for _ in range(TOGETHER)])
            await staying
    server.close()
    return took


def _body(who: str) -> bytes:
    asked = {"model": "small", "stream": True, "messages": [{"role": "user", "content": f"I am {who}."}]}
    return json.dumps(asked).encode()


def _stay(url: str) -> None:
    load(
        f"{url}/v1/chat/completions", _body("here"), headers=HEADERS, concurrency=STAYING, total=STAYING,
        connects_per_second=200.0, keep_alive=False, seconds=30.0,
    )  # fmt: skip


async def _leave(port: int, number: int) -> float:
    """Connect, wait for some tokens, close; return the seconds until the upstream's connection was closed."""
    loop = asyncio.get_running_loop()
    closed = _Upstream.closed[str(number)] = loop.create_future()
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    body = _body(f"client-{number}")
    head = (
        f"POST /v1/chat/completions HTTP/1.1\r\nhost: a\r\nauthorization: Bearer {KEY}\r\ncontent-length: {len(body)}"
    )
    writer.write(head.encode() + b"\r\n\r\n" + body)
    await reader.readuntil(b"token ")
    await asyncio.sleep(TOKEN_EVERY * (number % 7) / 7)
    left = loop.time()
    writer.transport.abort()
    async with asyncio.timeout(30):
        return await closed - left
