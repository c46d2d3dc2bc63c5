"""POST /chat/stream and POST /messages/{id}/cancel: the flow behind server-sent events of our own."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from fastapi import APIRouter, Request

from service.api.http_door import SSE_HEADERS, HttpDoor
from service.api.job_shapes import ACCEPTED, JOB, accepted
from service.api.openapi import refusals, streams, takes
from service.api.turn_response import TurnResponse, TurnRoute
from service.chat.body import ChatBody
from service.chat.events import EVENTS, KEEP_ALIVE, JobAccepted, encode_all
from service.chat.steps.input_validation import parse

if TYPE_CHECKING:
    from collections.abc import Sequence

    from service.api.wire import Wire
    from service.chat.events import Sent
    from service.chat.turn import Ask

ROUTE = "/chat/stream"
LONGEST_BODY = 512 * 1024  # bytes: 32,000 characters of 12 bytes each, if all are escaped, and a schema


class SseDoor(HttpDoor):
    """The door of `/chat/stream`: a JSON body in, typed events out."""

    route = ROUTE
    longest_body: ClassVar[int | None] = LONGEST_BODY

    def __init__(self, wire: Wire) -> None:
        super().__init__(wire)
        self._sequence = 1
        self.wants_phases = wire.header(b"x-forebay-debug") == "phases"

    def parse(self, body: bytes) -> Ask:
        """Return what is asked for; raise InvalidRequest naming the field."""
        return parse(body, ChatBody).ask()

    async def write(self, events: Sequence[Sent], *, last: bool) -> None:
        """Send `events` in one write; without any, a comment that keeps the connection alive."""
        if events and type(events[0]) is JobAccepted:  # isinstance asks a metaclass: 1 µs for each write
            await self._accept(events[0])
            return
        if not self._wire.started:
            await self._wire.start(200, SSE_HEADERS)
        data = encode_all(events, self._sequence) if events else KEEP_ALIVE
        self._sequence += len(events)
        await self._wire.write(data, last=last)

    def write_now(self, events: Sequence[Sent]) -> bool:
        """Send `events`, none of them the last; False, and nothing is sent, where that would wait."""
        if not self._wire.write_now(encode_all(events, self._sequence)):
            return False
        self._sequence += len(events)
        return True

    async def _accept(self, event: JobAccepted) -> None:
        """Answer with the job instead of a stream."""
        headers, body = accepted(event.accepted.job)
        await self._wire.start(ACCEPTED, headers)
        await self._wire.write(body, last=True)


router = APIRouter(route_class=TurnRoute)


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
