"""What an OpenAI-compatible server sends, and what it means. On the path of every token.

Typed structs decode in a tenth of a microsecond, and check the types as they go: a chunk that is something else fails
here and nowhere later. Servers differ in what they leave out, so almost everything is optional.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

import msgspec

from service.errors import ProviderFailure
from service.ports import Delta, Finish, ToolCallDelta, Usage
from service.providers.failures import UNREADABLE, counted, from_status, malformed


class _Function(msgspec.Struct, gc=False):
    name: str | None = None
    arguments: str | None = None


class _ToolCall(msgspec.Struct, gc=False):
    index: int | None = None
    id: str | None = None
    function: _Function | None = None


class _Delta(msgspec.Struct, gc=False):
    content: str | None = None
    refusal: str | None = None
    tool_calls: list[_ToolCall] | None = None


class _Choice(msgspec.Struct, gc=False):
    delta: _Delta | None = None
    finish_reason: str | None = None


class _Usage(msgspec.Struct, gc=False):
    prompt_tokens: int | None = None
    completion_tokens: int | None = None


class _Error(msgspec.Struct, gc=False):
    code: object = None
    type: object = None


class _Chunk(msgspec.Struct, gc=False):
    choices: list[_Choice] | None = None
    usage: _Usage | None = None
    error: _Error | str | None = None


Reason = Literal["stop", "length", "tool_calls", "content_filter"]

_decode = msgspec.json.Decoder(_Chunk).decode
_REASONS: dict[str, Reason] = {
    "length": "length",
    "model_length": "length",
    "max_tokens": "length",
    "tool_calls": "tool_calls",
    "function_call": "tool_calls",
    "content_filter": "content_filter",
}
_NOT_AN_ENDING = frozenset({"error", "insufficient_system_resource"})  # a server's own trouble, told as a reason
_STATUS_OF_WORD = (("rate_limit", 429), ("overloaded", 503), ("invalid_request", 400))
_HTTP_ERRORS, _SERVER_ERROR, _UNAVAILABLE = range(400, 600), 500, 503


class ChunkReader:
    """One stream's chunks, as deltas. `ended` once the model ended (else the stream was cut); `done` at `[DONE]`."""

    __slots__ = ("_calls", "_usage", "done", "ended", "request_id")

    def __init__(self, request_id: str = "") -> None:
        self.request_id = request_id
        self.ended = self.done = False
        self._usage: _Usage | None = None
        self._calls: list[tuple[int, str]] = []  # what a server calls each one: its index and id

    def read(self, payload: bytes) -> Iterable[Delta]:
        """Return what one payload says.

        Raises:
            ProviderFailure: It is no chunk, or it tells of an error.
        """
        if payload == b"[DONE]":
            self.done = True
            return () if self.ended else (self._finish("stop"),)  # no reason was given, but an end
        try:
            chunk = _decode(payload)
        except UNREADABLE:
            raise malformed(self.request_id) from None
        if chunk.error is not None:
            raise _failure(chunk.error if isinstance(chunk.error, _Error) else _Error(), self.request_id)
        if chunk.usage is not None:
            self._usage = chunk.usage
        if not chunk.choices:
            return ()
        choice = chunk.choices[0]
        if (delta := choice.delta) is not None and delta.content and not (delta.tool_calls or choice.finish_reason):
            return (delta.content,)  # a token and nothing else, as nearly always
        return self._choice(choice)

    def usage(self) -> Usage | None:
        """Return what is only known at the end: the last count of tokens that was sent, None if none was."""
        if self._usage is None:
            return None
        return Usage(counted(self._usage.prompt_tokens), counted(self._usage.completion_tokens))

    def _choice(self, choice: _Choice) -> list[Delta]:
        said: list[Delta] = []
        if (delta := choice.delta) is not None:
            if text := delta.content or delta.refusal:
                said.append(text)
            if delta.tool_calls:
                said += map(self._tool_call, delta.tool_calls)
        if choice.finish_reason and not self.ended:
            said.append(self._finish(choice.finish_reason))
        return said

    def _finish(self, reason: str) -> Finish:
        if reason in _NOT_AN_ENDING:
            raise from_status(_UNAVAILABLE, code=reason, request_id=self.request_id)
        self.ended = True
        meaning = _REASONS.get(reason, "stop")
        return Finish("tool_calls" if self._calls and meaning == "stop" else meaning)

    def _tool_call(self, call: _ToolCall) -> ToolCallDelta:
        function = call.function or _Function()
        return ToolCallDelta(self._place(call), call.id or "", function.name or "", function.arguments or "")

    def _place(self, call: _ToolCall) -> int:
        """Return which call a fragment belongs to.

        The index says it, by the book. Some servers leave it out or give 0 to all: there a new id is a new call.
        """
        index, call_id = call.index if call.index is not None else -1, call.id or ""
        for place in reversed(range(len(self._calls))):
            known_index, known_id = self._calls[place]
            if index in (-1, known_index) and call_id in ("", known_id):
                return place
        self._calls.append((index, call_id))
        return len(self._calls) - 1


def _failure(error: _Error, request_id: str) -> ProviderFailure:
    """Return the failure that an error object within a stream means: HTTP has said 200 already."""
    return from_status(_status(error), code=error.code or error.type, request_id=request_id)


def _status(error: _Error) -> int:
    if isinstance(error.code, int) and error.code in _HTTP_ERRORS:
        return error.code
    words = f"{error.type} {error.code}"
    return next((status for word, status in _STATUS_OF_WORD if word in words), _SERVER_ERROR)
