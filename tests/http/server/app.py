"""The smallest application that shows what the server does; `python app.py` serves it, for tests of whole processes."""

from __future__ import annotations

import argparse
import asyncio
import contextvars
import os
import queue
import sys
import threading
from contextlib import suppress
from typing import Any
from urllib.parse import parse_qs

from service.server.limits import ServerLimits
from service.server.run import Application, serve

STARTED = [(b"content-type", b"text/event-stream")]
inherited = contextvars.ContextVar("inherited", default="")


class App:
    """ASGI. What it saw is in `notes`, for a test in another thread."""

    def __init__(self) -> None:
        self.notes: queue.Queue[tuple[str, Any]] = queue.Queue()
        self.draining = asyncio.Event()
        self.hurried = asyncio.Event()
        self.streams: set[asyncio.Task[None]] = set()

    def application(self) -> Application:
        return Application(asgi=self, drain=self.drain, on_refused=self.refused, on_cut=self.cut)

    def refused(self, method: str, path: str, status: int) -> str:
        self.notes.put(("refused", (method, path, int(status))))
        return "0af7651916cd43dd8448eb211c80319c"

    def cut(self, method: str, path: str, cause: str) -> None:
        self.notes.put(("cut", (method, path, str(cause))))

    async def drain(self, seconds: float) -> None:
        self.draining.set()
        if self.streams and seconds:
            await asyncio.wait(self.streams, timeout=seconds)
        self.hurried.set()
        if self.streams:
            await asyncio.wait(self.streams)

    async def __call__(self, scope, receive, send) -> None:
        if scope["type"] == "lifespan":
            return await self.lifespan(receive, send)
        return await getattr(self, scope["path"].strip("/"))(scope, receive, send)

    async def lifespan(self, receive, send) -> None:
        await receive()
        if os.environ.get("FAIL_TO_START"):
            await send({"type": "lifespan.startup.failed"})
            return
        await send({"type": "lifespan.startup.complete"})
        await receive()
        print("open at shutdown:", len(self.streams), flush=True)  # noqa: T201 - read by the test
        await send({"type": "lifespan.shutdown.complete"})

    async def answer(self, send, body: bytes, status: int = 200) -> None:
        headers = [(b"content-length", str(len(body)).encode())]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    async def echo(self, scope, receive, send) -> None:
        """The length of the body, and what a request before it left in the context."""
        message = await receive()
        assert not message["more_body"]
        left = inherited.get()
        inherited.set(scope["path"])
        names = ",".join(name.decode() for name, _ in scope["headers"])
        self.notes.put(("echo", (len(message["body"]), left, names)))
        await self.answer(send, str(len(message["body"])).encode())

    async def pid(self, scope, receive, send) -> None:
        await self.answer(send, str(os.getpid()).encode())

    async def readyz(self, scope, receive, send) -> None:
        await self.answer(send, b"", 503 if self.draining.is_set() else 200)

    async def big(self, scope, receive, send) -> None:
        await self.answer(send, bytes(int(parse_qs(scope["query_string"])[b"bytes"][0])))

    async def wait(self, scope, receive, send) -> None:
        """Say nothing until the client goes, as while waiting for a first token."""
        inherited.set(scope["path"])
        await receive()
        self.notes.put(("waiting", None))
        assert (await receive())["type"] == "http.disconnect"
        self.notes.put(("disconnected", None))

    async def stream(self, scope, receive, send) -> None:
        """One event, then silence until the drain is over, then a terminal event; `?clean=` seconds to clean up."""
        task = asyncio.current_task()
        self.streams.add(task)
        query = parse_qs(scope["query_string"])
        try:
            await send({"type": "http.response.start", "status": 200, "headers": STARTED})
            await send({"type": "http.response.body", "body": b"event: message_start\n\n", "more_body": True})
            if b"deaf" in query:
                await asyncio.Event().wait()
            await self.hurried.wait()
            await asyncio.sleep(float(query.get(b"clean", [b"0.05"])[0]))
            await send({"type": "http.response.body", "body": b"event: error\n\n", "more_body": True})
            await send({"type": "http.response.body", "body": b""})
        finally:
            if b"deaf" in query:
                await asyncio.sleep(0.1)  # a clean-up
            self.streams.discard(task)

    async def hang(self, scope, receive, send) -> None:
        """What must never happen: the event loop stands still."""
        await self.answer(send, b"")
        threading.Event().wait()

    async def quick(self, scope, receive, send) -> None:
        """Four pieces without waiting, one of them empty; what is said to them, and to one before and one after."""
        write = scope["extensions"]["forebay.write"]
        said = [write(b"early")]
        await send({"type": "http.response.start", "status": 200, "headers": STARTED})
        said += [write(piece) for piece in (b"one,", b"", b"two,", b"three")]
        await send({"type": "http.response.body", "body": b""})
        said.append(write(b"late"))
        self.notes.put(("said", said))

    async def gush(self, scope, receive, send) -> None:
        """Write without waiting until that would wait, then wait for it, twice."""
        write = scope["extensions"]["forebay.write"]
        await send({"type": "http.response.start", "status": 200, "headers": STARTED})
        for _ in range(2):
            sent = 0
            while sent < 50_000_000 and write(bytes(1000)):
                sent += 1000
                await asyncio.sleep(0)
            self.notes.put(("paused", sent))
            await send({"type": "http.response.body", "body": b"then", "more_body": True})
        await send({"type": "http.response.body", "body": b""})
        self.notes.put(("gushed", None))

    async def after(self, scope, receive, send) -> None:
        """Begin an answer, and go on once the client has left."""
        await receive()
        await send({"type": "http.response.start", "status": 200, "headers": STARTED})
        self.notes.put(("waiting", None))
        assert (await receive())["type"] == "http.disconnect"
        self.notes.put(("said", scope["extensions"]["forebay.write"](b"late")))

    async def flood(self, scope, receive, send) -> None:
        """Write for ever; a write that is not taken within a second ends the connection."""
        await send({"type": "http.response.start", "status": 200, "headers": STARTED})
        sent = 0
        try:
            while True:
                async with asyncio.timeout(1):
                    await send({"type": "http.response.body", "body": bytes(1000), "more_body": True})
                sent += 1000
                if sent > 50_000_000:
                    break
        except TimeoutError:
            self.notes.put(("stalled", sent))
            if b"keep" in scope["query_string"]:
                await receive()
                await receive()
            scope["extensions"]["forebay.abort"]()
        self.notes.put(("flooded", sent))


def make_app() -> Application:
    return App().application()


if __name__ == "__main__":
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--workers", type=int, default=1)
    arguments.add_argument("--drain", type=float, default=10)
    arguments.add_argument("--cleanup", type=float, default=5)
    arguments.add_argument("--port", type=int, default=0)
    given = arguments.parse_args()
    with suppress(BrokenPipeError):
        code = serve(
            make_app,
            host="127.0.0.1",
            port=given.port,
            workers=given.workers,
            drain_seconds=given.drain,
            limits=ServerLimits(cleanup_seconds=given.cleanup),
            on_started=lambda port: print("port", port, flush=True),  # noqa: T201 - read by the test
        )
    sys.exit(code)
