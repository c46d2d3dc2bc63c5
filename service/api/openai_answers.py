"""A turn's events in OpenAI's words: as a stream of chunks, or as one completion. Called by openai_compat.py.

Source: https://platform.openai.com/docs/api-reference/chat. What the format has no place for, such as that another
model stood in, is told under the key `forebay`, which its clients pass over.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from service.api.openai_shapes import error_shape
from service.chat.events import ClientToolCalls, Error, MessageCompleted, MessageStart, Warning  # noqa: A004
from service.errors import STATUS_OF

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from service.chat.events import Sent
    from service.ports import ToolCall

OK = 200
_json = msgspec.json.encode


class Chunks:
    """A streamed answer: each event becomes the bytes of a chunk, of several, or of none.

    Args:
        created: Unix seconds.
        include_usage: whether a last chunk tells the tokens used.
    """

    def __init__(self, created: int, *, include_usage: bool) -> None:
        self._created, self._include_usage = created, include_usage
        self._head: dict[str, Any] = {}
        self._before_text = self._after_text = b""

    def encode_all(self, events: Sequence[Sent]) -> bytes:
        """Return `events` as server-sent events in one piece, b"" if the format has a place for none of them."""
        if len(events) == 1:
            return self.encode(events[0])
        texts = [_json(event) for event in events if isinstance(event, str)]
        if texts and len(texts) == len(events):  # nothing but tokens: half of what they cost one by one
            return self._before_text + (self._after_text + self._before_text).join(texts) + self._after_text
        return b"".join([self.encode(event) for event in events])

    def encode(self, event: Sent) -> bytes:
        """Return `event` as server-sent events, b"" if the format has no place for it."""
        if isinstance(event, str):
            return self._before_text + _json(event) + self._after_text
        sent = b"".join([b"data: %b\n\n" % _json(payload) for payload in self._payloads(event)])
        return sent + b"data: [DONE]\n\n" if type(event) is MessageCompleted else sent

    def _payloads(self, event: Sent) -> Iterator[dict[str, Any]]:
        match event:
            case MessageStart():
                self._begin(event)
                yield self._chunk({"role": "assistant", "content": ""})
            case Warning():
                yield self._chunk({}, forebay={"warning": {"code": event.code, "message": event.message}})
            case ClientToolCalls():
                yield self._chunk({"tool_calls": [{"index": n, **_call(call)} for n, call in enumerate(event.calls)]})
            case MessageCompleted():
                more = {"forebay": {"citations": event.citations}} if event.citations else {}
                yield self._chunk({}, event.finish_reason, **more)
                if self._include_usage:
                    yield {**self._head, "choices": [], "usage": _usage(event)}
            case Error():
                yield _error(event)

    def _begin(self, event: MessageStart) -> None:
        self._head = _head(event, "chat.completion.chunk", self._created)
        # The same bytes around every token: encoded once. After the last U+0000 comes nothing that anybody named.
        frame = b"data: %b\n\n" % _json(self._chunk({"content": "\x00"}))
        self._before_text, _, self._after_text = frame.rpartition(b'"\\u0000"')

    def _chunk(self, delta: dict[str, Any], finish: str | None = None, **more: Any) -> dict[str, Any]:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
        usage = {"usage": None} if self._include_usage else {}
        return {**self._head, "choices": [choice], **usage, **more}


class Whole:
    """An answer in one piece, collected until it is complete. `created` is in Unix seconds."""

    def __init__(self, created: int) -> None:
        self._created = created
        self._head: dict[str, Any] = {}
        self._text: list[str] = []
        self._calls: list[dict[str, Any]] = []
        self._warnings: list[dict[str, str]] = []

    def take(self, event: Sent) -> tuple[int, dict[str, Any]] | None:
        """Return status and body of the response if `event` is the last, else None."""
        match event:
            case str():
                self._text.append(event)
            case MessageStart():
                self._head = _head(event, "chat.completion", self._created)
            case Warning():
                self._warnings.append({"code": event.code, "message": event.message})
            case ClientToolCalls():
                self._calls = [_call(call) for call in event.calls]
            case MessageCompleted():
                return OK, self._completion(event)
            case Error():
                return STATUS_OF[event.code], _error(event)
        return None

    def _completion(self, event: MessageCompleted) -> dict[str, Any]:
        message: dict[str, Any] = {"role": "assistant", "content": "".join(self._text) or None, "refusal": None}
        if self._calls:
            message["tool_calls"] = self._calls
        choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": event.finish_reason}
        answer = {**self._head, "choices": [choice], "usage": _usage(event)}
        if self._warnings or event.citations:
            answer["forebay"] = {"warnings": self._warnings, "citations": event.citations}
        return answer


def _head(event: MessageStart, kind: str, created: int) -> dict[str, Any]:
    return {"id": f"chatcmpl-{event.message_id}", "object": kind, "created": created, "model": event.model}


def _call(call: ToolCall) -> dict[str, Any]:
    return {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}


def _usage(event: MessageCompleted) -> dict[str, int]:
    prompt, generated = event.usage.prompt_tokens, event.usage.generated_tokens
    return {"prompt_tokens": prompt, "completion_tokens": generated, "total_tokens": prompt + generated}


def _error(event: Error) -> dict[str, Any]:
    return error_shape(event.message, event.code, STATUS_OF[event.code])
