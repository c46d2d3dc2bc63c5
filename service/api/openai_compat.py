"""POST /v1/chat/completions and GET /v1/models: the same flow behind OpenAI's wire format, for SDKs that exist."""

from __future__ import annotations

import re
from functools import partial
from typing import TYPE_CHECKING, Any

import msgspec
from fastapi import APIRouter, Request

from service.api.chat import SSE_HEADERS, timeout_of
from service.api.idempotency import REPLAYED, once_of
from service.api.openai_answers import OK, Chunks, Whole
from service.api.openai_shapes import MALFORMED, CompletionBody, error_body
from service.api.openapi import refusals, takes
from service.api.problem import RETRY_STATUSES, problem
from service.api.sessions import caller
from service.api.turn_response import TurnResponse
from service.chat.events import KEEP_ALIVE
from service.chat.steps.input_validation import parse
from service.chat.turn import Ask
from service.errors import InvalidRequest

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from service.api.wire import Wire
    from service.chat.events import Event
    from service.errors import ForebayError
    from service.ports import ChatMessage, Once
    from service.runtime.world import World

ROUTE = "/v1/chat/completions"
SESSION_ID = re.compile(r"[A-Za-z0-9._:-]{1,128}")
ANSWER = {
    "description": "A `chat.completion`; with `stream` a stream of `chat.completion.chunk`, ended by `[DONE]`.",
    "content": {
        "application/json": {"schema": {"type": "object"}},
        "text/event-stream": {"itemSchema": {"type": "object", "properties": {"data": {"type": "string"}}}},
    },
}
LONGEST_QUESTION = 32_000  # characters, as at the other door
_json = msgspec.json.encode


class OpenAIDoor:
    """One completion, streamed or in one piece."""

    route = ROUTE
    wants_phases = False

    def __init__(self, wire: Wire, *, world: World, retrieval: bool) -> None:
        self._wire, self._retrieval = wire, retrieval
        self._new_session = partial(world.new_id, "session")
        self._created = int(world.now())
        self._whole = Whole(self._created)
        self._chunks: Chunks | None = None  # once it is known that the answer is to be streamed
        self.authorization = wire.header(b"authorization")
        self.address, self.headers_at = wire.address, wire.headers_at

    async def body(self) -> bytes:
        """Read the whole body."""
        return await self._wire.body()

    def timeout(self) -> float | None:
        """Return the client's own limit in seconds."""
        return timeout_of(self._wire)

    def parse(self, body: bytes) -> Ask:
        """Return what is asked for: the question is what the user said last."""
        asked = parse(body, CompletionBody)
        if asked.n is not None and asked.n != 1:
            raise InvalidRequest("n: only 1 is possible", status=MALFORMED, field="n")
        if asked.stream:
            options = asked.stream_options
            self._chunks = Chunks(self._created, include_usage=options is not None and options.include_usage)
        messages = tuple(message.plain(place) for place, message in enumerate(asked.messages))
        wished = asked.forebay.retrieval if asked.forebay else None
        return Ask(
            session_id=self._session(),
            message=_question(messages),
            model=asked.model,
            retrieval=self._retrieval if wished is None else wished,
            messages=messages,
            tools=asked.tools(),
            streamed=self._chunks is not None,
            max_output_tokens=asked.max_completion_tokens or asked.max_tokens,
            extra=asked.passed_on(),
        )

    def _session(self) -> str:
        given = self._wire.header(b"x-session-id")
        if given is None:
            return self._new_session()
        if not SESSION_ID.fullmatch(given):
            raise InvalidRequest("X-Session-Id: must be 1 to 128 characters of A-Z, a-z, 0-9 and ._:-")
        return given

    def once(self, body: bytes) -> Once | None:
        """Return the request's Idempotency-Key; raise InvalidRequest if it is none."""
        return once_of(self._wire, ROUTE, body)

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
        """Answer with a status and an error in OpenAI's shape."""
        status, headers, _ = problem(error, trace_id)
        body = _json(error_body(error))
        kept = [pair for pair in headers if pair[0] not in (b"content-type", b"content-length")]
        about = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
        await self._wire.start(status, [*kept, *about])
        await self._wire.write(body, last=True)

    def abort(self) -> None:
        """Free the socket at once."""
        self._wire.abort()

    async def write(self, events: Sequence[Event], *, last: bool) -> None:
        """Send `events` as chunks in one write; not streamed: keep them until the last, then send the whole."""
        if self._chunks is None:
            await self._collect(events)
            return
        data = b"".join([self._chunks.encode(event) for event in events])
        if not (data or last):
            if events:
                return  # events that OpenAI's format has no place for
            data = KEEP_ALIVE
        if not self._wire.started:
            await self._wire.start(OK, SSE_HEADERS)
        await self._wire.write(data, last=last)

    async def _collect(self, events: Sequence[Event]) -> None:
        for event in events:
            if (answer := self._whole.take(event)) is not None:
                await self._send(*answer)

    async def _send(self, status: int, answer: dict[str, Any]) -> None:
        body = _json(answer)
        headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
        if status in RETRY_STATUSES:
            headers.append((b"retry-after", b"1"))
        await self._wire.start(status, headers)
        await self._wire.write(body, last=True)


def _question(messages: Sequence[ChatMessage]) -> str:
    """Return what the session remembers as asked, and what is searched for: U+0000 cannot be stored."""
    said = next((message for message in reversed(messages) if message.role == "user"), messages[-1])
    return said.content[:LONGEST_QUESTION].replace("\x00", "")


router = APIRouter(prefix="/v1")


@router.post(
    "/chat/completions",
    summary="OpenAI's chat completions, streamed or not",
    status_code=200,
    response_class=TurnResponse,
    openapi_extra=takes(CompletionBody),
    responses={200: ANSWER, **refusals(403, 404, 409, 502, 504)},
)
async def chat_completions(request: Request) -> TurnResponse:
    """Answer as OpenAI's API does; what is refused or fails is told in its shape."""
    state = request.app.state
    return TurnResponse(state.parts, partial(OpenAIDoor, world=state.parts.world, retrieval=state.openai_retrieval))


@router.get("/models")
async def models(request: Request) -> dict[str, Any]:
    """Return the configured models, their ids exactly as they are written."""
    await caller(request)
    ids = request.app.state.parts.models.labels()
    return {
        "object": "list",
        "data": [{"id": model, "object": "model", "created": 0, "owned_by": "forebay"} for model in ids],
    }
