"""The tools of this installation, and what calls of them need: handed to the flow as a part of `Parts`."""

from __future__ import annotations

import asyncio
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from service.calls import Calls, Schemas, Tool
    from service.ports import Scope, ToolSpec
    from service.runtime.gate import Gate


@dataclass(frozen=True, slots=True)
class Equipped:
    """A tool with the limits that hold here. `timeout` in seconds; `approval`: a human decides before it runs."""

    tool: Tool
    gate: Gate
    timeout: float
    approval: bool


class Approvals:
    """The calls of this process that wait for a decision. It may be made in another: `upkeep` asks the database."""

    def __init__(self) -> None:
        self._decided: dict[str, asyncio.Event] = {}

    @property
    def waiting(self) -> tuple[str, ...]:
        """The ids of the calls that wait."""
        return tuple(self._decided)

    @contextmanager
    def expecting(self, call_id: str) -> Iterator[asyncio.Event]:
        """Give the event that is set when the call may have been decided: the database says how."""
        decided = self._decided[call_id] = asyncio.Event()
        try:
            yield decided
        finally:
            del self._decided[call_id]

    def wake(self, call_id: str) -> None:
        """The call was decided: whoever waits for it in this process looks."""
        if (decided := self._decided.get(call_id)) is not None:
            decided.set()


@dataclass(frozen=True, slots=True)
class Toolbox:
    """Everything that a call of a tool may touch.

    Attributes:
        calls: the state database.
        schemas: checks arguments, and nothing that a client has made.
        equipped: the tools, by name.
        barred: tools that cannot be called, being on no allow-list or not described (yet) by their server: name → its
            label in metrics.
        rounds: how often a model may ask for tools in one turn.
        approval_limit: seconds that a call waits for a human.
        approvals: what waits in this process.
    """

    calls: Calls
    schemas: Schemas
    equipped: dict[str, Equipped] = field(default_factory=dict)
    barred: dict[str, str] = field(default_factory=dict)
    rounds: int = 4
    approval_limit: float = 120.0
    approvals: Approvals = field(default_factory=Approvals)

    def offered(self, scope: Scope) -> tuple[ToolSpec, ...]:
        """Return the tools that a model may be told of: those that its user may call."""
        names = sorted(scope.tools & self.equipped.keys() - self.barred.keys())
        return tuple(self.equipped[name].tool.spec for name in names)

    def find(self, name: str) -> Equipped | None:
        """Return a tool that can be called."""
        return None if name in self.barred else self.equipped.get(name)

    def describe(self, spec: ToolSpec) -> None:
        """Offer a tool as its server describes it from now on; calls under way keep what they began with."""
        one = self.equipped[spec.name]
        self.equipped[spec.name] = replace(one, tool=replace(one.tool, spec=spec))
        self.barred.pop(spec.name, None)
