"""One HTTP exchange in ASGI's terms: the body in, the response out, and the moment in which the client leaves."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from service.errors import TooLarge

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from starlette.types import Receive, Scope, Send

Headers = list[tuple[bytes, bytes]]


class Wire:
    """Reads and writes one exchange. `receive` has one reader at a time: first the body, then the watch for the end."""

    def __init__(self, scope: Scope, receive: Receive, send: Send, *, max_body: int) -> None:
        self._scope, self._receive, self._send = scope, receive, send
        self._max_body = max_body
        self._body_ended = asyncio.Event()
        self._gone = False
        self._handed_over = False
        self._more_headers: Headers = []
        self._straight: Callable[[bytes], bool] | None = scope.get("extensions", {}).get("forebay.write")
        self.started = False

    def header(self, name: bytes) -> str | None:
        """Return a header of the request; `name` in lower case."""
        for key, value in self._scope["headers"]:
            if key == name:
                return str(value.decode("latin-1"))
        return None

    @property
    def headers_at(self) -> float:
        """When the headers were in: loop time, as the server noted it, or else now."""
        noted: float | None = self._scope.get("extensions", {}).get("forebay.headers_at")
        return asyncio.get_running_loop().time() if noted is None else noted

    @property
    def address(self) -> str:
        """The peer's address, "" when unknown."""
        client = self._scope.get("client")
        return client[0] if client else ""

    async def body(self, at_most: int | None = None) -> bytes:
        """Return the whole body; raise TooLarge. When the client leaves meanwhile, wait to be cancelled.

        Args:
            at_most: bytes, where a route takes less than the server does.
        """
        most = self._max_body if at_most is None else min(at_most, self._max_body)
        chunks: list[bytes] = []
        size = 0
        while True:
            message = await self._receive()
            if message["type"] == "http.disconnect":
                await self._note_gone()
            chunks.append(message.get("body", b""))
            size += len(chunks[-1])
            if size > most:
                self._body_ended.set()
                raise TooLarge(f"The body is larger than {most} bytes")
            if not message.get("more_body", False):
                self._body_ended.set()
                return b"".join(chunks)

    async def _note_gone(self) -> None:
        self._gone = True
        self._body_ended.set()
        await asyncio.get_running_loop().create_future()  # `left` returns, and its caller cancels us

    async def left(self) -> None:
        """Return when the client has gone before the response was handed over; else wait to be cancelled."""
        await self._body_ended.wait()
        while not self._gone:
            self._gone = (await self._receive())["type"] == "http.disconnect"
        if self._handed_over:
            await asyncio.get_running_loop().create_future()

    def add_header(self, name: bytes, value: bytes) -> None:
        """Send one more header at the start, whatever the response will be."""
        self._more_headers.append((name, value))

    async def start(self, status: int, headers: Sequence[tuple[bytes, bytes]]) -> None:
        """Send the status line and the headers."""
        self.started = True
        await self._send({"type": "http.response.start", "status": status, "headers": [*headers, *self._more_headers]})

    def write(self, data: bytes, *, last: bool) -> Awaitable[None]:
        """Send a piece of the body; waits while the peer does not read."""
        self._handed_over = last
        return self._send({"type": "http.response.body", "body": data, "more_body": not last})

    def write_now(self, data: bytes) -> bool:
        """Send a piece of the body, not its last; False, and nothing is sent, where that would or might wait."""
        if self._straight is None or not self.started or self._handed_over:
            return False
        return self._straight(data)

    def abort(self) -> None:
        """Free the socket at once: closing would wait for the reader to take what is buffered."""
        abort = self._scope.get("extensions", {}).get("forebay.abort")
        if abort is not None:
            abort()
