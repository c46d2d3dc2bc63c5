"""A provider that speaks OpenAI's format, on a socket, in a thread: it sees what it is asked, and when it is left.

The model that is asked for says how it answers. Times are those of `time.monotonic`, the test's own clock.
"""

from __future__ import annotations

import asyncio
import json
import queue
import threading
import time
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Self

from tests.support import PATIENCE

MODELS = ("echo", "endless", "no-headers", "no-chunk", "stalls", "breaks", "calls", "down", "busy", "wrong")
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
REFUSED = {"down": 500, "busy": 429, "wrong": 400}


@dataclass
class Asked:
    """One request, with when its connection was closed by the other side."""

    headers: dict[str, str]
    body: dict[str, Any]
    left_at: float = 0.0
    left: threading.Event = field(default_factory=threading.Event)

    def wait_until_left(self) -> float:
        """Return when it was; no budget of a service in these tests ends as soon, so it was for the client's sake."""
        assert self.left.wait(PATIENCE), "the upstream was never left"
        return self.left_at


class Upstream:
    """`asked` yields the requests in order; `base_url` is where it answers."""

    def __init__(self) -> None:
        self.asked: queue.SimpleQueue[Asked] = queue.SimpleQueue()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._serving: set[asyncio.Task[Any]] = set()

    def next(self) -> Asked:
        return self.asked.get(timeout=PATIENCE)

    def forget(self) -> None:
        """Begin anew: what was asked until now is nobody's business any more."""
        with suppress(queue.Empty):
            while True:
                self.asked.get_nowait()

    def __enter__(self) -> Self:
        self._thread.start()
        self._server = self._run(asyncio.start_server(self._serve, "127.0.0.1", 0))
        self.base_url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}/v1"
        return self

    def __exit__(self, *_: object) -> None:
        self._run(self._close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(PATIENCE)
        self._loop.close()

    def _run(self, work: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(PATIENCE)

    async def _close(self) -> None:
        self._server.close()
        for task in self._serving:
            task.cancel()
        await asyncio.gather(*self._serving, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._serving.add(asyncio.current_task())
        try:
            while (asked := await _read(reader)) is not None:
                self.asked.put(asked)
                held = asyncio.create_task(_note_leaving(reader, asked)) if _holds(asked) else None
                await _answer(writer, asked.body)
                if held is not None:
                    await held
                    return
        except ConnectionError:
            pass
        finally:
            self._serving.discard(asyncio.current_task())
            writer.close()


def _holds(asked: Asked) -> bool:
    return asked.body["model"] in ("endless", "no-headers", "no-chunk", "stalls")


async def _note_leaving(reader: asyncio.StreamReader, asked: Asked) -> None:
    with suppress(ConnectionError):
        await reader.read()
    asked.left_at = time.monotonic()
    asked.left.set()


async def _read(reader: asyncio.StreamReader) -> Asked | None:
    try:
        head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")[1:]
    except asyncio.IncompleteReadError:
        return None
    headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in head if line)}
    return Asked(headers, json.loads(await reader.readexactly(int(headers["content-length"]))))


async def _answer(writer: asyncio.StreamWriter, body: dict[str, Any]) -> None:
    model = body["model"] if body["model"] in MODELS else "echo"
    if model == "no-headers":
        return
    if model in REFUSED:
        text = b'{"error": {"message": "swordfish", "code": "no_luck"}}'
        writer.write(b"HTTP/1.1 %d X\r\nContent-Length: %d\r\n\r\n%s" % (REFUSED[model], len(text), text))
        await writer.drain()
        return
    writer.write(HEAD)
    for delta in _deltas(model, body):
        choice = {"index": 0, "delta": delta, "finish_reason": None}
        if model == "endless":
            await asyncio.sleep(0.01)
        _write(writer, {"choices": [choice]})
        await writer.drain()
    if model in ("echo", "calls"):
        _write(
            writer,
            {"choices": [{"index": 0, "delta": {}, "finish_reason": "tool_calls" if model == "calls" else "stop"}]},
        )
        _write(writer, {"choices": [], "usage": {"prompt_tokens": 11, "completion_tokens": 5}})
        writer.write(b"e\r\ndata: [DONE]\n\n\r\n0\r\n\r\n")
    await writer.drain()
    if model == "breaks":
        writer.close()


def _deltas(model: str, body: dict[str, Any]) -> Any:
    yield {"role": "assistant", "content": ""}
    match model:
        case "echo":
            for word in body["messages"][-1]["content"].split():
                yield {"content": f"{word} "}
        case "endless":
            for number in range(100_000):
                yield {"content": f"{number} "}
        case "stalls" | "breaks":
            yield {"content": "So "}
            yield {"content": "it "}
        case "calls":
            yield {"tool_calls": [{"index": 0, "id": "call_1", "function": {"name": "weather", "arguments": ""}}]}
            yield {"tool_calls": [{"index": 0, "function": {"arguments": '{"city": '}}]}
            yield {"tool_calls": [{"index": 0, "function": {"arguments": '"Ulm"}'}}]}
            yield {"tool_calls": [{"index": 1, "id": "call_2", "function": {"name": "time", "arguments": "{}"}}]}


def _write(writer: asyncio.StreamWriter, payload: dict[str, Any]) -> None:
    data = b"data: %s\n\n" % json.dumps(payload).encode()
    writer.write(b"%x\r\n%s\r\n" % (len(data), data))


def config(upstream: Upstream, more: str = "") -> str:
    """Settings with the upstream, its models by their names, and the simulated model."""
    return f"""
default_model = "sim"
{more}
[[providers]]
name = "up"
kind = "openai_compatible"
base_url = "{upstream.base_url}"
api_key_env = "UPSTREAM_KEY"
models = {json.dumps([*MODELS, ODD])}
max_attempts = 2
max_concurrency = 100
[[providers]]
name = "simulated"
kind = "simulated"
models = ["sim"]
"""


ODD = 'vendor/100%s "modèle":1'  # a model's id may hold anything that can be printed
