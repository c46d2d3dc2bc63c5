"""The tools of this installation: what ships and what servers have, with the limits of the settings. Of the root.

Names, limits and policies of the servers' tools ([[mcp]]) are known from the settings, so that the service starts
without the servers. Such a tool is on offer once its server has described it, in a way that we take on.
"""

from __future__ import annotations

import asyncio
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from service.chat.structured import beyond_limits
from service.chat.toolbox import Equipped, Toolbox
from service.errors import InvalidAnswer
from service.policy.cedar import CedarPolicy, ToolFacts
from service.retrieval import corpus
from service.runtime.gate import Gate
from service.settings import read_secret
from service.tools.mcp import Address, McpServer
from service.tools.registry import NAMES, shipped
from telemetry import catalogue as rows

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from service.calls import Schemas, Tool
    from service.ports import ToolSpec
    from service.runtime.world import World
    from service.settings import Settings
    from service.settings_rows import McpSettings, ToolSettings
    from service.store import StateStore
    from telemetry.observe import Observer

QUEUE = 1000  # who waits for a tool's place holds a request's place already: that bounds it
MOST_BARRED = 1_000  # names that are remembered of one server's tools that may not be called


def names_of(settings: Settings) -> tuple[str, ...]:
    """Return the names of every tool there is."""
    return (*NAMES, *(name for row in settings.mcp for name in row.tools))


def label_of(row: McpSettings) -> str:
    """Return what metrics call those tools of a server that cannot be called."""
    return f"mcp:{row.name}"


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


def address_of(given: McpSettings, environ: Mapping[str, str]) -> Address:
    """Return where a server is, with the secrets that its row points to; raise SettingsError."""
    secret = read_secret(given.api_key_env, given.api_key_file, environ)
    handed = {name: environ[name] for name in given.environment if name in environ}
    return Address(given.command, given.url, handed, secret.get_secret_value() if secret else "")


class ToolServers:
    """The servers of one process."""

    def __init__(self, given: Sequence[tuple[McpSettings, Address]], world: World, observer: Observer) -> None:
        self._observer = observer
        self._servers = [
            (row, McpServer(row.name, address, read_only=row.read_only, chance=world.random, observer=observer))
            for row, address in given
        ]

    @property
    def tools(self) -> Mapping[str, Tool]:
        """Every tool that may be called, by name, not described yet."""
        return {name: server.tool(name, row.shows) for row, server in self._servers for name in row.tools}

    @property
    def states(self) -> Mapping[str, Callable[[], str]]:
        """How each server is, for /readyz."""
        return {label_of(row): partial(getattr, server, "state") for row, server in self._servers}

    def start(self, toolbox: Toolbox) -> None:
        """Begin to connect; nobody waits for it."""
        for row, server in self._servers:
            toolbox.barred.update(dict.fromkeys(row.tools, label_of(row)))
            server.start(partial(self._learn, row, toolbox))

    async def stop(self) -> None:
        """Disconnect from all of them; their children end."""
        await asyncio.gather(*(server.stop() for _, server in self._servers))

    async def _learn(self, row: McpSettings, toolbox: Toolbox, listed: Sequence[ToolSpec]) -> None:
        """Offer what a server describes and the settings allow; bar everything else of it."""
        described = {spec.name: spec for spec in listed}
        for name in row.tools:
            problem = await _problem_of(described.get(name), toolbox)
            if problem is None:
                toolbox.describe(described[name])
            else:
                toolbox.barred[name] = label_of(row)
                self._observer.log(rows.LOG_DEGRADED, dependency="tool", server=row.name, tool=name, reason=problem)
        for name in [name for name in described if name not in toolbox.equipped][:MOST_BARRED]:
            toolbox.barred[name] = label_of(row)


async def _problem_of(spec: ToolSpec | None, toolbox: Toolbox) -> str | None:
    """Return why a tool cannot be offered, None if it can: its schema has the limits that a client's has."""
    if spec is None:
        return "the server does not have it"
    if spec.parameters.get("type") != "object":
        return "its schema is none of an object"
    if (problem := beyond_limits(spec.parameters)) is not None:
        return f"its schema {problem}"
    try:
        return await toolbox.schemas.problem_of_schema(spec.parameters)
    except InvalidAnswer:
        return "its schema cannot be checked"
