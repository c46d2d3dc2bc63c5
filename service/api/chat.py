"""POST /chat/stream and POST /messages/{id}/cancel: the flow behind server-sent events of our own."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastapi import APIRouter, Request

from service.api.idempotency import REPLAYED, once_of
from service.api.job_shapes import ACCEPTED, JOB, accepted
from service.api.openapi import refusals, streams, takes
from service.api.problem import problem
from service.api.turn_response import TurnResponse
from service.chat.body import ChatBody
from service.chat.events import EVENTS, KEEP_ALIVE, JobAccepted, encode_all
from service.chat.steps.input_validation import parse
from service.errors import InvalidRequest

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from service.api.wire import Wire
    from service.chat.events import Event
    from service.chat.turn import Ask
    from service.errors import ForebayError
    from service.ports import Once

ROUTE = "/chat/stream"
SSE_HEADERS = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-cache, no-transform"),
    (b"x-accel-buffering", b"no"),
]
TIMEOUT_DIGITS = 12  # some thirty years: longer numbers are slow to read, and become no float


class SseDoor:
    """The door of `/chat/stream`: a JSON body in, typed events out."""

    route = ROUTE

    def __init__(self, wire: Wire) -> None:
        self._wire = wire
        self._sequence = 1
        self.authorization = wire.header(b"authorization")
        self.address, self.headers_at = wire.address, wire.headers_at
        self.wants_phases = wire.header(b"x-forebay-debug") == "phases"

    async def body(self) -> bytes:
        """Read the whole body."""
        return await self._wire.body()

    def parse(self, body: bytes) -> Ask:
        """Return what is asked for; raise InvalidRequest naming the field."""
        return parse(body, ChatBody).ask()

    def timeout(self) -> float | None:
        """Return the client's own limit, `X-Request-Timeout-Ms`, in seconds."""
        return timeout_of(self._wire)

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

    async def write(self, events: Sequence[Event], *, last: bool) -> None:
        """Send `events` in one write; without any, a comment that keeps the connection alive."""
        if events and isinstance(events[0], JobAccepted):
            await self._accept(events[0])
            return
        if not self._wire.started:
            await self._wire.start(200, SSE_HEADERS)
        data = encode_all(events, self._sequence) if events else KEEP_ALIVE
        self._sequence += len(events)
        await self._wire.write(data, last=last)

    async def _accept(self, event: JobAccepted) -> None:
        """Answer with the job instead of a stream."""
        headers, body = accepted(event.accepted.job)
        await self._wire.start(ACCEPTED, headers)
        await self._wire.write(body, last=True)

    async def refuse(self, error: ForebayError, trace_id: str) -> None:
        """Answer with a status instead of a stream."""
        status, headers, body = problem(error, trace_id)
        await self._wire.start(status, headers)
        await self._wire.write(body, last=True)

    def abort(self) -> None:
        """Free the socket at once."""
        self._wire.abort()


def timeout_of(wire: Wire) -> float | None:
    """Return `X-Request-Timeout-Ms` in seconds, None without one; raise InvalidRequest if it is no such number."""
    text = wire.header(b"x-request-timeout-ms")
    if text is None:
        return None
    if not (text.isascii() and text.isdigit() and len(text) <= TIMEOUT_DIGITS and int(text) > 0):
        raise InvalidRequest("X-Request-Timeout-Ms: must be a whole number of milliseconds, at least 1")
    return int(text) / 1e3


router = APIRouter()


@router.post(
    ROUTE,
    summary="One chat turn, answered as server-sent events",
    status_code=200,
    response_class=TurnResponse,
    openapi_extra=takes(ChatBody),
    responses={200: streams("ChatEvent", EVENTS), ACCEPTED: JOB, **refusals(403, 404, 409, 504)},
)
async def chat_stream(request: Request) -> TurnResponse:
    """Answer one message of a session; the events are described in the schema."""
    return TurnResponse(request.app.state.parts, SseDoor)
