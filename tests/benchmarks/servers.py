"""The programs that are measured, each a process of its own: `python -m tests.benchmarks.servers NAME PORT`.

References: `raw-turn` (an ASGI application that sends one encoded event per send and lets the loop turn after each, as
whoever waits for a token does; `raw-burst` does not, and uvloop joins what it sends into one write), `relay` (a bare
FastAPI and aiohttp relay), `upstream` (a fast fake provider), `collector` (takes OTLP and throws it away). Ours:
`path-…`, the streaming path alone, on the protocol that it is served with. The whole product is in service.py.
"""

from __future__ import annotations

import asyncio
import gc
import sys
from functools import partial
from typing import TYPE_CHECKING

import aiohttp
import msgspec
import uvicorn
import uvloop
from fastapi import FastAPI, Request
from fastapi.responses import StreamingResponse

from service.server.limits import DEFAULT_LIMITS
from service.server.protocol import HardenedProtocol
from service.server.refusals import cut_not_counted, not_counted
from tests.benchmarks.path import path_application

if TYPE_CHECKING:
    from collections.abc import Callable

TOKEN = "token "
UPSTREAM_TOKENS = 100


def raw_application(events: int, *, turns: bool):
    """ASGI at its barest: one encoded event per send."""
    event = b'id: 1\nevent: token_delta\ndata: {"text":"%b"}\n\n' % TOKEN.encode()

    async def application(scope, receive, send):
        if scope["type"] == "lifespan":
            return
        await receive()
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/event-stream")]})
        for _ in range(events):
            await send({"type": "http.response.body", "body": event, "more_body": True})
            if turns:
                await asyncio.sleep(0)
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    return application


def relay_application(upstream: str) -> FastAPI:
    """What a developer writes in ten minutes: no limits, no telemetry, nothing kept."""
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    session: list[aiohttp.ClientSession] = []

    @app.post("/v1/chat/completions")
    async def completions(request: Request) -> StreamingResponse:
        if not session:
            session.append(aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)))
        body = await request.body()

        async def chunks():
            headers = {"content-type": "application/json"}
            async with session[0].post(f"{upstream}/v1/chat/completions", data=body, headers=headers) as answer:
                async for chunk in answer.content.iter_any():
                    yield chunk

        return StreamingResponse(chunks(), media_type="text/event-stream")

    return app


class Upstream(asyncio.Protocol):
    """A provider that answers every request with the same stream, one chunk per loop turn, in OpenAI's format."""

    def __init__(self, tokens: int = UPSTREAM_TOKENS, at_once: int = 1) -> None:
        chunk = {
            "id": "c", "object": "chat.completion.chunk", "created": 1, "model": "small",
            "choices": [{"index": 0, "delta": {"content": TOKEN}, "finish_reason": None}],
        }  # fmt: skip
        last = {**chunk, "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}
        usage = {**chunk, "choices": [], "usage": {"prompt_tokens": 9, "completion_tokens": tokens, "total_tokens": 9}}
        one = chunked(b"data: %b\n\n" % msgspec.json.encode(chunk)) * at_once
        end = b"".join(chunked(b"data: %b\n\n" % msgspec.json.encode(part)) for part in (last, usage))
        self._pieces = [one] * (tokens // at_once) + [end + chunked(b"data: [DONE]\n\n") + b"0\r\n\r\n"]
        self._waiting = b""

    def connection_made(self, transport):
        self._transport = transport
        self._sending = None

    def data_received(self, data):
        self._waiting += data
        head, found, rest = self._waiting.partition(b"\r\n\r\n")
        if not found:
            return
        length = length_of(head)
        if len(rest) >= length:
            self._waiting = rest[length:]
            self._sending = asyncio.ensure_future(self._answer())

    async def _answer(self):
        self._transport.write(
            b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
        )
        for piece in self._pieces:
            if self._transport.is_closing():
                return
            self._transport.write(piece)
            await asyncio.sleep(0)

    def connection_lost(self, exc):
        if self._sending is not None:
            self._sending.cancel()


class Collector(asyncio.Protocol):
    """Takes every batch of spans, and thanks for it."""

    def connection_made(self, transport):
        self._transport = transport
        self._left = 0
        self._head = b""

    def data_received(self, data):
        if not self._left:
            head, found, data = (self._head + data).partition(b"\r\n\r\n")
            self._head = b"" if found else head
            if not found:
                return
            self._left = length_of(head)
        self._left -= len(data)
        if self._left == 0:
            self._transport.write(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")


def length_of(head: bytes) -> int:
    lines = head.lower().split(b"\r\n")
    return next((int(line[15:]) for line in lines if line.startswith(b"content-length:")), 0)


def chunked(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


def _serve(application, port: int, **options) -> None:
    gc.set_threshold(100_000, 50, 1_000)  # as the service has it: the difference is not to be the collector
    uvicorn.run(application, host="127.0.0.1", port=port, log_config=None, access_log=False, lifespan="off", **options)


async def _listen(port: int, protocol: Callable[[], asyncio.Protocol]) -> None:
    server = await asyncio.get_running_loop().create_server(protocol, "127.0.0.1", port)
    await server.serve_forever()


def main(name: str, port: int, argument: str = "") -> None:
    """Run one of them until it is killed."""
    if name in ("raw-turn", "raw-burst"):
        _serve(raw_application(int(argument), turns=name == "raw-turn"), port)
    elif name == "relay":
        _serve(relay_application(argument), port)
    elif name == "upstream":
        uvloop.run(_listen(port, partial(Upstream, at_once=int(argument or 1))))
    elif name == "collector":
        uvloop.run(_listen(port, Collector))
    elif name.startswith("path-"):
        ours = partial(HardenedProtocol, limits=DEFAULT_LIMITS, on_refused=not_counted, on_cut=cut_not_counted)
        _serve(path_application(name.removeprefix("path-"), int(argument)), port, http=ours)
    else:
        raise SystemExit(f"no server is called {name}")


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), *sys.argv[3:])
