"""The tools of this installation: what ships, with the limits of the settings. Part of the composition root."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from service.chat.toolbox import Equipped, Toolbox
from service.policy.cedar import CedarPolicy, ToolFacts
from service.retrieval import corpus
from service.runtime.gate import Gate
from service.tools.registry import shipped

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from service.calls import Schemas, Tool
    from service.settings import Settings
    from service.settings_rows import ToolSettings
    from service.store import StateStore
    from telemetry.observe import Observer

QUEUE = 1000  # who waits for a tool's place holds a request's place already: that bounds it


def tools_of(store: StateStore) -> dict[str, Tool]:
    """Return every tool. Blocks: it reads the registers of the demo from their files."""
    return shipped({corpus.TENANT: corpus.cases()}, {corpus.TENANT: corpus.policies()}, store)


def facts_of(tools: Iterable[Tool]) -> tuple[ToolFacts, ...]:
    """Return what policies may know of the tools."""
    return tuple(ToolFacts(tool.spec.name, tool.side_effects) for tool in tools)


def policy_of(settings: Settings, toolbox: Toolbox) -> CedarPolicy:
    """Return the policies of the settings over these tools; raise PolicyError. Blocks for a moment: it reads files."""
    path = Path(settings.policy.path) if settings.policy.path else None
    return CedarPolicy(path, tools=facts_of(one.tool for one in toolbox.equipped.values()))


def toolbox_of(
    tools: Mapping[str, Tool], settings: Settings, store: StateStore, schemas: Schemas, observer: Observer
) -> Toolbox:
    """Return the tools with the limits that hold here, each with its places."""
    default = settings.budgets.tool_ms / 1e3
    return Toolbox(
        calls=store,
        schemas=schemas,
        equipped={name: _equip(tool, settings.tools.get(name), default, observer) for name, tool in tools.items()},
        rounds=settings.chat.tool_rounds,
        approval_limit=settings.budgets.approval_ms / 1e3,
    )


def _equip(tool: Tool, given: ToolSettings | None, default: float, observer: Observer) -> Equipped:
    timeout, approval = tool.timeout or default, tool.approval
    if given is not None and given.timeout_ms is not None:
        timeout = given.timeout_ms / 1e3
    if given is not None and given.approval is not None:
        approval = given.approval == "required"
    places = (given.concurrency if given else None) or tool.concurrency
    gate = Gate(f"tool:{tool.spec.name}", places, queue=QUEUE, observer=observer)
    return Equipped(tool, gate, timeout, approval)
