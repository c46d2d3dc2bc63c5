"""POST /v1/chat/completions and GET /v1/models: the same flow behind OpenAI's wire format, for SDKs that exist."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import msgspec
from fastapi import APIRouter, Request
from pydantic import BaseModel

from service.api.chat import SSE_HEADERS, SessionId, timeout_of
from service.api.idempotency import REPLAYED, once_of
from service.api.openai_shapes import CompletionBody, error_body
from service.api.openapi import refusals, takes
from service.api.problem import RETRY_STATUSES, problem
from service.api.sessions import caller
from service.api.turn_response import TurnResponse
from service.chat.events import KEEP_ALIVE, ClientToolCalls, Error, MessageCompleted, MessageStart, TokenDelta
from service.chat.steps.input_validation import parse
from service.chat.turn import Ask
from service.errors import STATUS_OF, InvalidRequest

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from service.api.wire import Wire
    from service.chat.events import Event
    from service.errors import ForebayError
    from service.ports import Once, ToolCall
    from service.runtime.world import World

ROUTE = "/v1/chat/completions"
OK = 200
ANSWER = {
    "description": "A `chat.completion`; with `stream` a stream of `chat.completion.chunk`, ended by `[DONE]`.",
    "content": {
        "application/json": {"schema": {"type": "object"}},
        "text/event-stream": {"itemSchema": {"type": "object", "properties": {"data": {"type": "string"}}}},
    },
}
LONGEST_QUESTION = 32_000  # characters of the last message that are kept as the question and the session's text
_json = msgspec.json.encode


class OpenAIDoor:
    """One completion, streamed or in one piece."""

    route = ROUTE
    wants_phases = False

    def __init__(self, wire: Wire, *, world: World, retrieval: bool) -> None:
        self._wire, self._retrieval = wire, retrieval
        self._new_session = partial(world.new_id, "session")
        self._created = int(world.now())
        self.authorization = wire.header(b"authorization")
        self.address = wire.address
        self.streamed = False
        self._include_usage = False
        self._id = self._model = ""
        self._text: list[str] = []
        self._calls: list[dict[str, Any]] = []

    async def body(self) -> bytes:
        """Read the whole body."""
        return await self._wire.body()

    def timeout(self) -> float | None:
        """Return the client's own limit in seconds."""
        return timeout_of(self._wire)

    def parse(self, body: bytes) -> Ask:
        """Return what is asked for: the last message is the question, those before it the history."""
        asked = parse(body, CompletionBody)
        if asked.n is not None and asked.n != 1:
            raise InvalidRequest("n: only 1 is possible", status=400, field="n")
        self.streamed = bool(asked.stream)
        self._include_usage = bool(asked.stream_options and asked.stream_options.include_usage)
        messages = tuple(message.plain() for message in asked.messages)
        wished = asked.forebay.retrieval if asked.forebay else None
        return Ask(
            session_id=self._session(),
            message=messages[-1].content[:LONGEST_QUESTION],
            model=asked.model,
            retrieval=self._retrieval if wished is None else wished,
            messages=messages,
            streamed=self.streamed,
            max_output_tokens=asked.max_completion_tokens or asked.max_tokens,
            extra=asked.passed_on(),
        )

    def _session(self) -> str:
        given = self._wire.header(b"x-session-id")
        if given is None:
            return self._new_session()
        return parse(_json({"session_id": given}), _Session).session_id

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
        if not self.streamed:
            await self._collect(events)
            return
        data = b"".join(self._chunks(event) for event in events)
        if not (data or last):
            if events:
                return  # events that OpenAI's format has no place for
            data = KEEP_ALIVE
        if not self._wire.started:
            await self._wire.start(200, SSE_HEADERS)
        await self._wire.write(data, last=last)

    def _chunks(self, event: Event) -> bytes:
        match event:
            case TokenDelta():
                return self._chunk_of_text % _json(event.text)
            case MessageStart():
                self._begin(event)
                return self._chunk({"role": "assistant", "content": ""})
            case ClientToolCalls():
                return self._chunk({"tool_calls": [_call(call, index) for index, call in enumerate(event.calls)]})
            case MessageCompleted():
                usage = self._usage_chunk(event) if self._include_usage else b""
                return self._chunk({}, finish=event.finish_reason) + usage + b"data: [DONE]\n\n"
            case Error():
                return b"data: %b\n\n" % _json(_error_of(event))
        return b""

    def _begin(self, event: MessageStart) -> None:
        self._id, self._model = f"chatcmpl-{event.message_id}", event.model
        # The same bytes around every token: encoded once. A `%` in a model's id must not become a format.
        frame = self._chunk({"content": "\x00"}).replace(b"%", b"%%")
        self._chunk_of_text = frame.replace(b'"\\u0000"', b"%b")

    def _head(self, kind: str) -> dict[str, Any]:
        return {"id": self._id, "object": kind, "created": self._created, "model": self._model}

    def _chunk(self, delta: dict[str, Any], finish: str | None = None) -> bytes:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
        return b"data: %b\n\n" % _json({**self._head("chat.completion.chunk"), "choices": [choice]})

    def _usage_chunk(self, event: MessageCompleted) -> bytes:
        return b"data: %b\n\n" % _json({**self._head("chat.completion.chunk"), "choices": [], "usage": _usage(event)})

    async def _collect(self, events: Sequence[Event]) -> None:
        for event in events:
            match event:
                case MessageStart():
                    self._id, self._model = f"chatcmpl-{event.message_id}", event.model
                case TokenDelta():
                    self._text.append(event.text)
                case ClientToolCalls():
                    self._calls = [_call(call, None) for call in event.calls]
                case Error():
                    await self._send_whole(STATUS_OF[event.code], _error_of(event))
                case MessageCompleted():
                    await self._send_whole(OK, self._whole(event))

    async def _send_whole(self, status: int, answer: dict[str, Any]) -> None:
        body = _json(answer)
        headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
        if status in RETRY_STATUSES:
            headers.append((b"retry-after", b"1"))
        await self._wire.start(status, headers)
        await self._wire.write(body, last=True)

    def _whole(self, event: MessageCompleted) -> dict[str, Any]:
        message: dict[str, Any] = {"role": "assistant", "content": "".join(self._text) or None, "refusal": None}
        if self._calls:
            message["tool_calls"] = self._calls
        choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": event.finish_reason}
        return {**self._head("chat.completion"), "choices": [choice], "usage": _usage(event)}


class _Session(BaseModel):
    session_id: SessionId


def _call(call: ToolCall, index: int | None) -> dict[str, Any]:
    shown = {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
    return shown if index is None else {"index": index, **shown}


def _usage(event: MessageCompleted) -> dict[str, int]:
    prompt, generated = event.usage.prompt_tokens, event.usage.generated_tokens
    return {"prompt_tokens": prompt, "completion_tokens": generated, "total_tokens": prompt + generated}


def _error_of(event: Error) -> dict[str, Any]:
    return {"error": {"message": event.message, "type": "server_error", "param": None, "code": event.code}}


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
