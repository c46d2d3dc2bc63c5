"""POST /v1/chat/completions and GET /v1/models: the same flow behind OpenAI's wire format, for SDKs that exist."""

from __future__ import annotations

import re
from functools import partial
from typing import TYPE_CHECKING, Any

import msgspec
from fastapi import APIRouter, Request

from service.api.caller import caller
from service.api.http_door import SSE_HEADERS, HttpDoor
from service.api.openai_answers import OK, Chunks, Whole
from service.api.openai_shapes import MALFORMED, CompletionBody
from service.api.openapi import refusals, takes
from service.api.problem import retry_after
from service.api.turn_response import TurnResponse, TurnRoute
from service.chat.body import SESSION_ID
from service.chat.events import KEEP_ALIVE, Error
from service.chat.steps.input_validation import parse
from service.chat.turn import Ask
from service.errors import InvalidRequest

if TYPE_CHECKING:
    from collections.abc import Sequence

    from service.api.wire import Wire
    from service.chat.events import Sent
    from service.ports import ChatMessage
    from service.runtime.world import World

ROUTE = "/v1/chat/completions"
ANSWER = {
    "description": "A `chat.completion`; with `stream` a stream of `chat.completion.chunk`, ended by `[DONE]`.",
    "content": {
        "application/json": {"schema": {"type": "object"}},
        "text/event-stream": {"itemSchema": {"type": "object", "properties": {"data": {"type": "string"}}}},
    },
}
LONGEST_QUESTION = 32_000  # characters, as at the other door
_json = msgspec.json.encode


class OpenAIDoor(HttpDoor):
    """One completion, streamed or in one piece."""

    route = ROUTE

    def __init__(self, wire: Wire, *, world: World, retrieval: bool) -> None:
        super().__init__(wire)
        self._retrieval = retrieval
        self._new_session = partial(world.new_id, "session")
        self._created = int(world.now())
        self._whole = Whole(self._created)
        self._chunks: Chunks | None = None  # once it is known that the answer is to be streamed

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
        if not re.fullmatch(SESSION_ID, given):
            raise InvalidRequest("X-Session-Id: must be 1 to 128 characters of A-Z, a-z, 0-9 and ._:-")
        return given

    async def write(self, events: Sequence[Sent], *, last: bool) -> None:
        """Send `events` as chunks in one write; not streamed: keep them until the last, then send the whole."""
        if self._chunks is None:
            await self._collect(events)
            return
        data = self._chunks.encode_all(events)
        if not (data or last):
            if events:
                return  # events that OpenAI's format has no place for
            data = KEEP_ALIVE
        if not self._wire.started:
            await self._wire.start(OK, SSE_HEADERS)
        await self._wire.write(data, last=last)

    def write_now(self, events: Sequence[Sent]) -> bool:
        """Send `events`, none of them the last, as chunks; False, and nothing is sent, where that would wait."""
        return self._chunks is not None and self._wire.write_now(self._chunks.encode_all(events))

    async def _collect(self, events: Sequence[Sent]) -> None:
        for event in events:
            if (answer := self._whole.take(event)) is not None:
                await self._send(*answer, event.retry_after if isinstance(event, Error) else None)

    async def _send(self, status: int, answer: dict[str, Any], seconds: float | None) -> None:
        body = _json(answer)
        headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
        await self._wire.start(status, [*headers, *retry_after(status, seconds)])
        await self._wire.write(body, last=True)


def _question(messages: Sequence[ChatMessage]) -> str:
    """Return what the session remembers as asked, and what is searched for: U+0000 cannot be stored."""
    said = next((message for message in reversed(messages) if message.role == "user"), messages[-1])
    return said.content[:LONGEST_QUESTION].replace("\x00", "")


router = APIRouter(prefix="/v1", route_class=TurnRoute)


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
