"""What a turn needs from outside, as protocols and plain values. Real parts and fakes pass the same contract tests.

Nothing in here imports a library: a step sees these names only, never a driver.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol


@dataclass(frozen=True, slots=True)
class Principal:
    """Who a key belongs to. `roles` are of analyst, approver, developer, service."""

    tenant: str
    user: str
    roles: frozenset[str]
    key_id: str


@dataclass(frozen=True, slots=True)
class Scope:
    """What a principal may see and use: yielded by the policy, applied to every retrieval and tool call."""

    tenant: str
    labels: frozenset[str]
    tools: frozenset[str] = frozenset()


class Policy(Protocol):
    """Authorisation. Deny by default: a method that cannot say yes raises `Forbidden`."""

    async def scope(self, principal: Principal, action: str = "chat") -> Scope:
        """Return what `principal` may see and use for `action`; raise Forbidden if not even the action is allowed."""
        ...

    def allows(self, principal: Principal, action: str, *, tenant: str | None = None, **context: str) -> bool:
        """Tell whether `principal` may do `action`, of which `context` tells what the policies ask for."""
        ...

    def may_read(self, principal: Principal, document: Document) -> bool:
        """Tell whether this one document may be read: asked again for each one found."""
        ...

    def may_call(self, principal: Principal, tool: str, resource: str) -> bool:
        """Tell whether this tool may be called on `resource`: asked for each call, and again right before it runs."""
        ...


@dataclass(frozen=True, slots=True)
class Document:
    """A passage that was found. `score` is higher for better, without a unit."""

    id: str
    title: str
    text: str
    tenant: str
    labels: frozenset[str]
    score: float = 0.0


class Retriever(Protocol):
    """Finds passages; never returns one outside the scope."""

    async def query(self, question: str, scope: Scope, limit: int) -> Sequence[Document]:
        """Return at most `limit` documents of the scope, best first; raise RetrievalFailed."""
        ...


class Reranker(Protocol):
    """Puts the best first: CPU work, done outside the event loop."""

    async def rerank(self, question: str, documents: Sequence[Document]) -> Sequence[Document]:
        """Return the same documents in a new order, with new scores."""
        ...


Status = Literal["streaming", "completed", "cancelled", "failed", "timed_out", "interrupted"]


@dataclass(frozen=True, slots=True)
class Message:
    """One message of a session. `created_at` is in Unix seconds."""

    message_id: str
    role: Literal["user", "assistant"]
    status: Status
    text: str
    created_at: float
    tool_calls: tuple[Mapping[str, Any], ...] = ()


@dataclass(frozen=True, slots=True)
class Once:
    """An Idempotency-Key as it came in on `route`; `body_hash` is the SHA-256 of the body, in hexadecimal."""

    route: str
    key: str
    body_hash: str


@dataclass(frozen=True, slots=True)
class NewTurn:
    """What is written when a turn begins: the user's message, completed, and the assistant's, streaming."""

    tenant: str
    user: str
    session_id: str
    user_message_id: str
    message_id: str
    question: str
    model: str
    instance_id: str
    now: float
    once: Once | None = None


@dataclass(frozen=True, slots=True)
class Answered:
    """An answer that was completed earlier, as a replay tells it. `events` is what `Ending.events` was."""

    text: str
    model: str
    finish_reason: str
    prompt_tokens: int
    generated_tokens: int
    citations: tuple[str, ...]
    events: str


@dataclass(frozen=True, slots=True)
class Begun:
    """Under which ids a turn runs: its own, or those of an earlier one with the same Idempotency-Key.

    `run` counts how often the answer was begun, from 1. With `answered` it is not begun again: this is the answer.
    """

    message_id: str
    user_message_id: str
    session_id: str
    run: int = 1
    answered: Answered | None = None


@dataclass(frozen=True, slots=True)
class Ending:
    """How a turn ended: written only over `streaming` of the same run (compare and set). Tokens are counts.

    `events` is JSON of what a replay shows beside the text; the store does not look into it.
    """

    message_id: str
    status: Status
    text: str
    now: float
    finish_reason: str = ""
    prompt_tokens: int = 0
    generated_tokens: int = 0
    citations: tuple[str, ...] = ()
    error_code: str = ""
    run: int = 1
    events: str = "[]"


class Store(Protocol):
    """The state database, as a turn sees it. Every method raises PersistFailed when the database cannot answer.

    A write that is cancelled while it waits is withdrawn, and never half done: after the cancellation it has either
    happened or not, and `end_turn` tells which through `on_commit`.
    """

    async def history(self, tenant: str, user: str, session_id: str, limit: int) -> Sequence[Message]:
        """Return the last `limit` messages of the caller's session, oldest first; () for a new one."""
        ...

    async def begin_turn(self, turn: NewTurn, on_commit: Any = None) -> Begun:
        """Write the session if it is new and both messages, in one transaction; raise Conflict.

        With a key (`turn.once`) that was used before, the earlier turn is begun again under its own ids, or, when it
        was completed, its answer returned. `on_commit` gets the same, under the rules of `end_turn`.
        """
        ...

    async def completed_turn(self, tenant: str, user: str, once: Once) -> Begun | None:
        """Return the turn that was completed under this key, for this body; None for none. Nothing is begun."""
        ...

    async def end_turn(self, ending: Ending, on_commit: Any = None) -> bool:
        """Replace `streaming` by the ending's status; return False if it was not streaming any more.

        `on_commit`, a function without arguments, is called in the event loop as soon as the commit is certain, also
        when the waiting task was cancelled meanwhile: that call is the moment of completion.
        """
        ...


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A call that the model asks for. `arguments` is the JSON text as the model wrote it."""

    id: str
    name: str
    arguments: str


@dataclass(frozen=True, slots=True)
class ChatMessage:
    """One message of a prompt, as models know them."""

    role: Literal["system", "user", "assistant", "tool"]
    content: str
    tool_calls: tuple[ToolCall, ...] = ()
    tool_call_id: str = ""


@dataclass(frozen=True, slots=True)
class ToolSpec:
    """A tool as a model is told of it: name, purpose, JSON Schema of its arguments."""

    name: str
    description: str
    parameters: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class ModelRequest:
    """One call of a model. `messages` hold the documents rendered; `documents` are the same, for the simulation."""

    model: str
    messages: tuple[ChatMessage, ...]
    documents: tuple[Document, ...] = ()
    tools: tuple[ToolSpec, ...] = ()
    response_schema: Mapping[str, Any] | None = None
    max_output_tokens: int | None = None
    extra: Mapping[str, Any] = field(default_factory=dict)
    attempt: int = 1
    message_id: str = ""
    round: int = 0


Text = str
"""A piece of the answer, as the provider sent it. A bare string: one is made for every token."""


@dataclass(frozen=True, slots=True)
class ToolCallDelta:
    """A fragment of a tool call: fragments of one `index` belong together; `arguments` are to be joined."""

    index: int
    id: str = ""
    name: str = ""
    arguments: str = ""


@dataclass(frozen=True, slots=True)
class Usage:
    """Token counts of one call, as the provider counted them."""

    prompt_tokens: int
    generated_tokens: int


@dataclass(frozen=True, slots=True)
class Finish:
    """The model ended by itself: without one of these a stream was cut."""

    reason: Literal["stop", "length", "tool_calls", "content_filter"]


Delta = Text | ToolCallDelta | Usage | Finish
Deltas = Sequence[Delta]
"""What came at once, at least one: what a provider is read by, so that a token costs no wait of its own."""


class Model(Protocol):
    """A provider's row: streams typed deltas; its payloads, error texts and headers stay inside it.

    `stream` is an async generator: close it (`aclosing`) and the upstream connection is closed. It raises
    ProviderFailure for everything that can go wrong upstream; a stream that is cut or malformed is a failure.
    """

    name: str

    def stream(self, request: ModelRequest) -> AsyncGenerator[Deltas, None]:
        """Yield the deltas of one answer as they come, the last of them Finish (Usage may come after it)."""
        ...

    async def close(self) -> None:
        """Free what the provider holds: connections, a child process."""
        ...
