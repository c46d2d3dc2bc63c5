"""Tools and their calls, as plain values and protocols: what tools are made of, and what a turn needs to call them.

As in ports.py, nothing in here imports a library, and real parts and fakes pass the same contract tests.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from service.ports import ToolSpec


@dataclass(frozen=True, slots=True)
class ToolUse:
    """One use of a tool: for whom, with which arguments (valid by its schema), under which key.

    A tool that changes something hands `key` on, or remembers it: it is the same whenever the same use is tried again.
    """

    tenant: str
    user: str
    arguments: Mapping[str, Any]
    key: str


@dataclass(frozen=True, slots=True)
class Tool:
    """Something that a model may ask for, as it ships; the settings may say other limits.

    Attributes:
        spec: what the model is told of it.
        run: does it, and returns a JSON value. Raises ToolFailed only when certainly nothing has happened; after
            anything else it raises nobody knows whether a side effect did. May be cancelled.
        side_effects: whether it changes anything anywhere.
        approval: whether a human decides on each use before it runs.
        idempotent: whether a second run with the same key changes nothing: only then is a side effect tried again.
        timeout: seconds for one call, None for the budget of `tool.call`.
        concurrency: calls at once.
        shows: the arguments that events and approvers may see; all others are hidden.
        resource: the argument that names what it is about, for the policy.
        lookup: returns what `run` returned under this use's key, None if it finds nothing: which proves nothing.
        kind: `function` of ours, or `extension` of a server elsewhere: for its span.
    """

    spec: ToolSpec
    run: Callable[[ToolUse], Awaitable[Any]]
    side_effects: bool = False
    approval: bool = False
    idempotent: bool = False
    timeout: float | None = None
    concurrency: int = 20
    shows: frozenset[str] = frozenset()
    resource: str = ""
    lookup: Callable[[ToolUse], Awaitable[Any]] | None = None
    kind: Literal["function", "extension"] = "function"


class Schemas(Protocol):
    """Checks JSON against JSON Schema, outside the event loop and within a limit: a pattern can be an attack."""

    async def problem(self, schema: Mapping[str, Any], text: str) -> str | None:
        """Return what is wrong with the JSON `text`, in words for the model; None if it is valid.

        Raises InvalidAnswer when it cannot be told within the limit.
        """
        ...

    async def problem_of_schema(self, schema: Mapping[str, Any]) -> str | None:
        """Return what is wrong with a schema itself, without its own words; None if nothing is."""
        ...


CallState = Literal[
    "awaiting_approval", "approved", "running", "completed", "denied", "failed", "timed_out", "indeterminate"
]


@dataclass(frozen=True, slots=True)
class NewCall:
    """A tool call that is claimed, in its first state. `arguments` is JSON, sanitised; times in Unix seconds.

    `key` is unique for one owner: whoever claims it later gets what became of the first. `digest` is the SHA-256 of
    all arguments.
    """

    call_id: str
    key: str
    message_id: str
    tenant: str
    user: str
    tool: str
    arguments: str
    digest: str
    state: CallState
    instance_id: str
    now: float
    error_code: str = ""
    expires_at: float | None = None


@dataclass(frozen=True, slots=True)
class StoredCall:
    """A tool call as it stands. `result` is what the model is told, None while there is none."""

    call_id: str
    message_id: str
    tenant: str
    user: str
    tool: str
    arguments: str
    digest: str
    state: CallState
    result: str | None
    error_code: str
    created_at: float
    expires_at: float | None


class Calls(Protocol):
    """The state database, as a tool call sees it. Every method raises PersistFailed when it cannot answer."""

    async def claim_call(self, call: NewCall) -> StoredCall | None:
        """Write the call, or begin one again that certainly did not happen; else return the earlier one as it is."""
        ...

    async def call(self, call_id: str) -> StoredCall | None:
        """Return a call as it stands; None if there is none."""
        ...

    async def advance_call(
        self, call_id: str, before: Sequence[CallState], state: CallState, *, result: str | None = None, code: str = ""
    ) -> bool:
        """Move a call from one of the states `before` to `state`; return False if it was in none of them."""
        ...
