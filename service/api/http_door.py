"""What every door over HTTP has in common: headers read, the body taken, refusals, and the end of a connection.

A door of a route adds what its body means and how its events are written: chat.py, jobs.py, openai_compat.py.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from service.api.idempotency import REPLAYED, once_of
from service.api.problem import refusal_for
from service.errors import InvalidRequest

if TYPE_CHECKING:
    from collections.abc import Mapping

    from service.api.wire import Wire
    from service.errors import ForebayError
    from service.ports import Once

SSE_HEADERS = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-cache, no-transform"),
    (b"x-accel-buffering", b"no"),
]
TIMEOUT_DIGITS = 12  # some thirty years: longer numbers are slow to read, and become no float


class HttpDoor:
    """One exchange on `route`. `longest_body` is in bytes, None for whatever the server takes."""

    route: ClassVar[str]
    longest_body: ClassVar[int | None] = None

    def __init__(self, wire: Wire) -> None:
        self._wire = wire
        self.authorization = wire.header(b"authorization")
        self.address, self.headers_at = wire.address, wire.headers_at
        self.wants_phases = False

    async def body(self) -> bytes:
        """Read the whole body; raise TooLarge."""
        return await self._wire.body(self.longest_body)

    def timeout(self) -> float | None:
        """Return the client's own limit, `X-Request-Timeout-Ms`, in seconds; raise InvalidRequest if it is none."""
        text = self._wire.header(b"x-request-timeout-ms")
        if text is None:
            return None
        if not (text.isascii() and text.isdigit() and len(text) <= TIMEOUT_DIGITS and int(text) > 0):
            raise InvalidRequest("X-Request-Timeout-Ms: must be a whole number of milliseconds, at least 1")
        return int(text) / 1e3

    def once(self, body: bytes) -> Once | None:
        """Return the request's Idempotency-Key; raise InvalidRequest if it is none."""
        return once_of(self._wire, self.route, body)

    def announce(self, headers: Mapping[str, str]) -> None:
        """Send these headers too, whatever the answer is."""
        for name, value in headers.items():
            self._wire.add_header(name.lower().encode(), value.encode())

    def say_replayed(self) -> None:
        """Say in the headers that this answer was given before."""
        self._wire.add_header(*REPLAYED)

    async def left(self) -> None:
        """Return when the client has gone."""
        await self._wire.left()

    async def refuse(self, error: ForebayError, trace_id: str) -> None:
        """Answer with a status instead of a stream, in the shape that the route's clients read."""
        status, headers, body = refusal_for(self.route, error, trace_id)
        await self._wire.start(status, headers)
        await self._wire.write(body, last=True)

    def abort(self) -> None:
        """Free the socket at once."""
        self._wire.abort()
