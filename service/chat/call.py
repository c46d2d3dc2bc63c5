"""One call of a tool while it lives: who it is for, what it is called by, how it stands. Made by respond.py.

Its id and its key come from the message, the tool, the arguments and how often the same was asked for before: providers
repeat their own ids between rounds, and a turn that is tried again meets what it did the first time.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from telemetry.catalogue import OTHER

if TYPE_CHECKING:
    from service.calls import CallState
    from service.chat.parts import Parts
    from service.chat.toolbox import Equipped
    from service.chat.turn import Turn
    from service.errors import Code
    from service.ports import Principal, Scope, ToolCall

LONGEST_NAME = 64  # characters of a name that no tool has
LONGEST_ARGUMENTS = 16_384  # characters of JSON
LONGEST_SHOWN = 200  # characters of one argument in an event
HIDDEN = "[hidden]"

Seen = Counter[tuple[str, str]]


@dataclass(eq=False, slots=True)
class Call:
    """`state` is what is committed, None before anything is; `result` is JSON; `worked` in seconds.

    Attributes:
        arguments: as the model gave them, None if they are no JSON object.
        digest: SHA-256 of all of them.
        ours: whether this turn claimed it, so that nobody else may move it.
        begun: whether the tool was entered: from here on a side effect may have happened.
        code: why it was refused, or how it failed; `words` say so to the model.
    """

    turn: Turn
    use: Parts
    who: Principal
    scope: Scope
    asked: ToolCall
    equipped: Equipped | None
    arguments: dict[str, Any] | None
    digest: str
    call_id: str
    state: CallState | None = None
    ours: bool = False
    begun: bool = False
    replayed: bool = False
    code: Code | None = None
    words: str = ""
    result: str | None = None
    worked: float = 0.0

    @property
    def name(self) -> str:
        """The tool's name, cut to what may be shown if no tool has it."""
        return "".join(c for c in self.asked.name if c.isprintable())[:LONGEST_NAME]

    @property
    def label(self) -> str:
        """The tool's name in metrics and spans."""
        return self.asked.name if self.equipped is not None else self.use.toolbox.barred.get(self.asked.name, OTHER)

    @property
    def key(self) -> str:
        """What makes a side effect happen at most once (unique with tenant and user)."""
        assert self.turn.ask is not None  # noqa: S101  (types: the flow has read it)
        session, message = self.turn.ask.session_id, self.turn.message_id
        return f"session:{session}:assistant-message:{message}:tool-call:{self.call_id}"

    @property
    def resource(self) -> str:
        """What it is about, for the policy; "" if the tool names nothing."""
        named = self.equipped.tool.resource if self.equipped is not None else ""
        return str((self.arguments or {}).get(named, "")) if named else ""

    @property
    def may_run_beside_others(self) -> bool:
        """Whether it changes nothing and waits for nobody, so that its order among others does not matter."""
        return self.equipped is None or not (self.equipped.tool.side_effects or self.equipped.approval)

    @property
    def shown(self) -> dict[str, Any]:
        """The arguments as events and approvers see them: what may be seen, and not at any length."""
        known = self.equipped.tool.spec.parameters.get("properties", {}) if self.equipped is not None else {}
        shows = self.equipped.tool.shows if self.equipped is not None else frozenset()
        given = {name: value for name, value in (self.arguments or {}).items() if name in known}
        return {name: _cut(value) if name in shows else HIDDEN for name, value in given.items()}

    @property
    def told(self) -> str:
        """What the model is told: the result, or why there is none."""
        if self.state == "completed":
            return self.result or "null"
        return json.dumps({"status": self.state, "error": self.words}, ensure_ascii=False)


def new_call(turn: Turn, use: Parts, who: Principal, scope: Scope, asked: ToolCall, seen: Seen) -> Call:
    """Return the call that `asked` means; `seen` counts what this turn has asked for before."""
    arguments = _object(asked.arguments)
    text = asked.arguments if arguments is None else json.dumps(arguments, sort_keys=True, separators=(",", ":"))
    digest = _sha256(text)
    occurrence = seen[asked.name, digest]
    seen[asked.name, digest] += 1
    identity = json.dumps([who.tenant, who.user, turn.message_id, asked.name, digest, occurrence])
    equipped = use.toolbox.find(asked.name)
    return Call(turn, use, who, scope, asked, equipped, arguments, digest, f"call_{_sha256(identity)[:32]}")


def _object(text: str) -> dict[str, Any] | None:
    """Return the JSON object that a model wrote, None if it wrote something else."""
    if len(text) > LONGEST_ARGUMENTS:
        return None
    try:
        value = json.loads(text or "{}", parse_constant=_refuse)
        json.dumps(value, ensure_ascii=False).encode()  # half a surrogate pair could not be sent or stored
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def _refuse(constant: str) -> Any:
    raise ValueError(f"{constant} is no JSON")


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "backslashreplace")).hexdigest()


def _cut(value: Any) -> Any:
    text = value if isinstance(value, str) else json.dumps(value)
    return value if len(text) <= LONGEST_SHOWN else f"{text[:LONGEST_SHOWN]}…"
