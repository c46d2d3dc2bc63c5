"""The events of a stream: pydantic models, which also make the published JSON Schema, and their encoding as SSE.

Contract, section 2. A token is the exception, because there are so many: on its way it is its bare text (`Sent`), and
`encode` formats it by hand. TokenDelta is what that looks like on the wire (a test holds the two together): to make one
for every token, and to have pydantic dump it, would cost ten times the rest of the path.
"""

from __future__ import annotations

import operator
from itertools import count
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import msgspec
from pydantic import BaseModel, ConfigDict, Field
from pydantic.json_schema import SkipJsonSchema

from service.ports import ToolCall
from service.work import Accepted

if TYPE_CHECKING:
    from collections.abc import Sequence

KEEP_ALIVE = b": keep-alive\n\n"


class Event(BaseModel):
    """One event of a stream; `type` is its SSE name."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)
    type: ClassVar[str]
    kept: ClassVar[bool] = False  # stored with the answer, and told again by a replay


class MessageStart(Event):
    """The turn was admitted. Sent before retrieval."""

    type = "message_start"
    message_id: str
    session_id: str
    model: str
    trace_id: str


class FoundDocument(BaseModel):
    """A document that the answer may use. The score has no unit: higher is better."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    id: str
    title: str
    score: float


class RetrievalCompleted(Event):
    """What was found, best first."""

    type = "retrieval_completed"
    kept = True
    count: int
    documents: tuple[FoundDocument, ...]
    degraded: bool
    suggestions: tuple[FoundDocument, ...] = Field(default=(), exclude_if=operator.not_)
    """What else to look at; only where a service of suggestions is configured. No part of the answer."""


class TokenDelta(Event):
    """A piece of the answer, as the model sent it: deltas are never merged."""

    type = "token_delta"
    text: str


Sent = Event | str
"""What is sent to a client: an event, or the text of a TokenDelta."""


class ToolCallRequested(Event):
    """The model asks for a tool; sent once that state is committed. `arguments` are sanitised."""

    type = "tool_call_requested"
    kept = True
    call_id: str
    tool: str
    arguments: dict[str, Any]
    authorization: Literal["allowed", "denied"]
    approval: Literal["not_required", "required"]
    status: Literal["running", "awaiting_approval", "denied"]


class ToolCallStarted(Event):
    """The tool runs."""

    type = "tool_call_started"
    kept = True
    call_id: str
    tool: str


class ToolCallCompleted(Event):
    """The tool ended. Duration in milliseconds."""

    type = "tool_call_completed"
    kept = True
    call_id: str
    tool: str
    status: Literal["completed", "failed", "denied", "timed_out", "indeterminate"]
    duration_ms: int
    replayed: bool
    error_code: str | None


class Warning(Event):  # noqa: A001  (its name on the wire)
    """The turn goes on with less, or later, and says so."""

    type = "warning"
    kept = True
    code: str
    message: str


class PhaseEvent(Event):
    """Where the turn is; only for developers who ask for it. Times in milliseconds."""

    type = "phase"
    phase: str
    state: Literal["started", "ended"]
    budget_ms: int | None
    elapsed_ms: int | None
    outcome: str | None


class Error(Event):
    """The stream ends without an answer. `code` is of the closed list."""

    type = "error"
    code: str
    message: str
    phase: str | None
    retryable: bool
    trace_id: str
    retry_after: SkipJsonSchema[float | None] = Field(default=None, exclude=True)  # seconds; a header's, where it can


class TokenUsage(BaseModel):
    """Counts of tokens, as the provider counted them where it did."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    prompt_tokens: int
    generated_tokens: int


class MessageCompleted(Event):
    """The whole answer was validated and persisted. Duration in milliseconds."""

    type = "message_completed"
    message_id: str
    finish_reason: str
    usage: TokenUsage
    citations: tuple[str, ...]
    duration_ms: int


class ClientToolCalls(Event):
    """Calls of the client's own tools, for the client to make: OpenAI's format has a place for them, ours has not."""

    type = "client_tool_calls"
    kept = True
    calls: tuple[ToolCall, ...]


class JobAccepted(Event):
    """The request became a job: all that its client is told, with 202."""

    type = "job_accepted"
    accepted: Accepted


EVENTS: tuple[type[Event], ...] = (
    MessageStart, RetrievalCompleted, TokenDelta, ToolCallRequested, ToolCallStarted, ToolCallCompleted, Warning,
    PhaseEvent, Error, MessageCompleted,
)  # fmt: skip

_ALL: tuple[type[Event], ...] = (*EVENTS, ClientToolCalls)
_KEPT: dict[str, type[Event]] = {event.type: event for event in _ALL if event.kept}
_encode_json = msgspec.json.encode


def encode(event: Sent, sequence: int) -> bytes:
    """Return `event` as one SSE event, with `sequence` as its id."""
    if isinstance(event, str):
        return b'id: %d\nevent: token_delta\ndata: {"text":%b}\n\n' % (sequence, _encode_json(event))
    return b"id: %d\nevent: %b\ndata: %b\n\n" % (sequence, event.type.encode(), event.model_dump_json().encode())


def keep(events: Sequence[tuple[int, Event]]) -> str:
    """Return events as JSON to be stored, each with the number of characters of the answer that came before it."""
    return _encode_json([[at, event.type, event.model_dump(mode="json")] for at, event in events]).decode()


def retold(text: str, kept: str) -> list[Sent]:
    """Return a stored answer as events: those that were kept where they stood, the text in one delta between them."""
    told: list[Sent] = []
    told_to = 0
    for at, kind, data in msgspec.json.decode(kept):
        if at > told_to and told_to < len(text):
            told.append(text[told_to:at])
            told_to = at
        told.append(_KEPT[kind].model_validate(data))
    if told_to < len(text):
        told.append(text[told_to:])
    return told


def found_in(kept: str) -> tuple[str, ...] | None:
    """Return the ids of the documents that a stored answer was given, in the order of the prompt; None: no search."""
    for _, kind, data in msgspec.json.decode(kept):
        if kind == RetrievalCompleted.type:
            return tuple(document["id"] for document in data["documents"])
    return None


def encode_all(events: Sequence[Sent], first: int) -> bytes:
    """Return `events` as whole SSE events in one piece, numbered from `first`."""
    return b"".join(map(encode, events, count(first)))
