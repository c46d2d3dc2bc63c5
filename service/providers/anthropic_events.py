"""What Anthropic's Messages API streams, and what it means. On the path of every token.

One struct holds every event's fields: decoding a union by its tag first costs more than the fields that stay empty.
"""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from service.errors import ProviderFailure
from service.ports import Delta, Finish, ToolCallDelta, Usage
from service.providers.failures import UNREADABLE, counted, from_status, malformed
from service.providers.openai_chunks import Reason


class _Usage(msgspec.Struct):
    input_tokens: int | None = None
    cache_read_input_tokens: int | None = None
    cache_creation_input_tokens: int | None = None
    output_tokens: int | None = None


class _Message(msgspec.Struct):
    usage: _Usage | None = None


class _Block(msgspec.Struct):
    type: str
    id: str = ""
    name: str = ""


class _Delta(msgspec.Struct):
    type: str = ""
    text: str = ""
    partial_json: str = ""
    stop_reason: str | None = None


class _Error(msgspec.Struct):
    type: str = ""


class _Event(msgspec.Struct):
    type: str
    index: int = 0
    message: _Message | None = None
    content_block: _Block | None = None
    delta: _Delta | None = None
    usage: _Usage | None = None
    error: _Error | None = None


_decode = msgspec.json.Decoder(_Event).decode
_REASONS: dict[str, Reason] = {
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "tool_use": "tool_calls",
    "refusal": "content_filter",
}
# https://docs.anthropic.com/en/api/errors: what HTTP would have said, had it not said 200 already.
_STATUS = {
    "invalid_request_error": 400,
    "authentication_error": 401,
    "permission_error": 403,
    "not_found_error": 404,
    "request_too_large": 413,
    "rate_limit_error": 429,
    "timeout_error": 504,
    "overloaded_error": 529,
}
_API_ERROR = 500


class EventReader:
    """One stream's events, as deltas. `ended` once the model ended (else it was cut); `done` at `message_stop`."""

    __slots__ = ("_blocks", "_generated", "_prompt", "done", "ended", "request_id")

    def __init__(self, request_id: str = "") -> None:
        self.request_id = request_id
        self.ended = self.done = False
        self._blocks: dict[int, int] = {}  # index of a content block → index of the tool call in it
        self._prompt = self._generated = 0

    def read(self, payload: bytes) -> Iterator[Delta]:
        """Yield what one payload says; events of unknown type say nothing, as the API demands of clients.

        Raises:
            ProviderFailure: It is no event, or it tells of an error.
        """
        try:
            event = _decode(payload)
        except UNREADABLE:
            raise malformed(self.request_id) from None
        match event.type:
            case "content_block_delta" if event.delta is not None:
                yield from self._delta(event.index, event.delta)
            case "content_block_start" if event.content_block is not None:
                yield from self._start(event.index, event.content_block)
            case "message_start" if event.message is not None:
                self._count(event.message.usage)
            case "message_delta":
                self._count(event.usage)
                yield from self._end(event.delta)
            case "message_stop":
                self.done = True
            case "error":
                raise self._failure(event.error or _Error())
            case _:
                pass

    def usage(self) -> Usage:
        """Return the tokens counted so far."""
        return Usage(self._prompt, self._generated)

    def _delta(self, index: int, delta: _Delta) -> Iterator[Delta]:
        if delta.type == "text_delta" and delta.text:
            yield delta.text
        elif delta.type == "input_json_delta" and delta.partial_json:
            if index not in self._blocks:
                raise malformed(self.request_id)
            yield ToolCallDelta(self._blocks[index], arguments=delta.partial_json)

    def _start(self, index: int, block: _Block) -> Iterator[Delta]:
        if block.type == "tool_use":
            self._blocks[index] = len(self._blocks)
            yield ToolCallDelta(self._blocks[index], id=block.id, name=block.name)

    def _end(self, delta: _Delta | None) -> Iterator[Delta]:
        if delta is not None and delta.stop_reason and not self.ended:
            self.ended = True
            yield Finish(_REASONS.get(delta.stop_reason, "stop"))

    def _count(self, usage: _Usage | None) -> None:
        """Take the newest counts: they are totals, and what came from the cache is counted apart."""
        if usage is None:
            return
        if usage.input_tokens is not None:
            parts = (usage.input_tokens, usage.cache_read_input_tokens, usage.cache_creation_input_tokens)
            self._prompt = sum(map(counted, parts))
        if usage.output_tokens is not None:
            self._generated = counted(usage.output_tokens)

    def _failure(self, error: _Error) -> ProviderFailure:
        return from_status(_STATUS.get(error.type, _API_ERROR), code=error.type, request_id=self.request_id)
