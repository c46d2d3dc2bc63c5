"""A server of tools (Model Context Protocol): kept connected in the background, and its tools as tools of ours.

A server that is absent, hangs or dies costs its own calls and nothing else. It is asked for its list of tools every
now and then, and at once when a call came to nothing: one that does not answer is left and connected to again, a child
by starting it again. Made by tool_servers.py.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

from service.calls import Tool
from service.errors import ForebayError, ToolFailed, ToolUnavailable
from service.ports import ToolSpec
from telemetry import catalogue as rows

if TYPE_CHECKING:
    import random
    from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping

    from service.calls import ToolUse
    from service.tools.mcp_link import Link
    from telemetry.observe import Observer

    Told = Callable[[tuple[ToolSpec, ...]], Awaitable[None]]

CONNECT_LIMIT = 30.0  # seconds to start a server, agree on a version and get its list
PROBE_LIMIT = 5.0  # seconds to give the list again
PROBE_EVERY = 30.0  # seconds
STEADY = 30.0  # seconds: who lived for that long is connected to again at once
FIRST_PAUSE, LONGEST_PAUSE = 0.2, 30.0  # seconds before the next try; twice as long each time
STOP_LIMIT = 8.0  # seconds: the SDK gives a child 6.5 to end
DEPENDENCY = "tool"


@dataclass(frozen=True, slots=True)
class Address:
    """Where a server is, and what it needs to let us in.

    Attributes:
        command: its program and arguments, to be run as a child.
        environ: what the child finds in its environment, beside PATH, HOME and their like.
        url: where it is instead.
        key: sent to the URL as a bearer token; "" for none.
    """

    command: tuple[str, ...] = ()
    url: str = ""
    environ: Mapping[str, str] = field(default_factory=dict, repr=False)
    key: str = field(default="", repr=False)


class McpServer:
    """One server, in one process.

    Args:
        name: how the settings call it.
        address: where it is.
        read_only: whether its tools change nothing; otherwise each call needs approval, and is never tried again.
        chance: jitter of the pauses.
        observer: told when it is gone and when it is back.
    """

    def __init__(
        self,
        name: str,
        address: Address,
        *,
        read_only: bool,
        chance: random.Random,
        observer: Observer,
    ) -> None:
        self._name, self._address, self._read_only = name, address, read_only
        self._chance, self._observer = chance, observer
        self._link: Link | None = None
        self._down = False
        self._doubt = asyncio.Event()
        self._keeping: asyncio.Task[None] | None = None
        self._asking: set[asyncio.Task[Any]] = set()

    @property
    def state(self) -> str:
        """How it is: ready, starting or failed."""
        return "ready" if self._link is not None else "failed" if self._down else "starting"

    def tool(self, name: str, shows: Iterable[str] = ()) -> Tool:
        """Return its tool `name`, not described yet."""
        changes = not self._read_only
        return Tool(
            ToolSpec(name, "", {"type": "object"}),
            partial(self._run, name),
            side_effects=changes,
            approval=changes,
            shows=frozenset(shows),
            kind="extension",
        )

    def start(self, told: Told) -> None:
        """Begin to connect; `told` gets the list of tools whenever it is another one."""
        self._keeping = asyncio.create_task(self._keep(told), name=f"mcp:{self._name}")

    async def stop(self) -> None:
        """Disconnect, and end the child if there is one."""
        if self._keeping is not None:
            self._keeping.cancel()
            await asyncio.wait({self._keeping, *self._asking}, timeout=STOP_LIMIT)

    # --- one call -----------------------------------------------------------------------------------------------------

    async def _run(self, name: str, use: ToolUse) -> Any:
        """Call a tool.

        Raises:
            ToolUnavailable: the server was not reached, or a tool that only reads was called in vain.
            ToolFailed: the server refused, or a tool that only reads reports an error.
            ForebayError: a tool that changes something may have done so.
        """
        if self._link is None:
            raise ToolUnavailable("The tool's server is not there now")
        try:
            value, is_error = await self._ask(self._link.call(name, use.arguments))
        except ToolFailed:
            raise
        except ConnectionError:
            self._doubt.set()
            raise self._failure(ToolUnavailable("The tool's server gave no result")) from None
        except asyncio.CancelledError:  # by a budget as a rule: it may hang
            self._doubt.set()
            raise
        if is_error:
            raise self._failure(ToolFailed("The tool reports an error", said=str(value)))
        return value

    def _failure(self, of_reading: ForebayError) -> ForebayError:
        """Return what failed if the tool only reads; else nobody knows what it did before."""
        return of_reading if self._read_only else ForebayError("It is not known what the tool did")

    async def _ask(self, call: Coroutine[Any, Any, tuple[Any, bool]]) -> tuple[Any, bool]:
        """Wait for a call, but not for its cancellation: a server that reads nothing would hold it up for seconds."""
        asking = asyncio.create_task(call)
        self._asking.add(asking)
        asking.add_done_callback(self._asking.discard)
        try:
            return await asyncio.shield(asking)
        except asyncio.CancelledError:
            asking.cancel()
            raise

    # --- kept connected -----------------------------------------------------------------------------------------------

    async def _keep(self, told: Told) -> None:
        loop, pause = asyncio.get_running_loop(), FIRST_PAUSE
        link_class = await asyncio.to_thread(_load)
        while True:
            began = loop.time()
            try:
                await self._live(link_class(self._address), told)
            except Exception as failure:  # noqa: BLE001 -- whatever a server does is its own failure; none of it is told
                self._lose(failure)
            pause = FIRST_PAUSE if loop.time() - began > STEADY else min(2 * pause, LONGEST_PAUSE)
            await asyncio.sleep(self._chance.uniform(pause / 2, pause))

    async def _live(self, link: Link, told: Told) -> None:
        """Connect, and stay so until something fails."""
        try:
            async with asyncio.timeout(CONNECT_LIMIT) as limit:
                async with link:
                    known = await link.tools()
                    limit.reschedule(None)
                    await told(known)
                    self._find(link)
                    while True:
                        await self._pass()
                        async with asyncio.timeout(PROBE_LIMIT):
                            listed = await link.tools()
                        if listed != known:
                            known = listed
                            await told(known)
        finally:
            self._link = None

    async def _pass(self) -> None:
        """Wait until it is time to look again, or somebody doubts that the server is there."""
        try:
            async with asyncio.timeout(PROBE_EVERY):
                await self._doubt.wait()
        except TimeoutError:
            pass
        self._doubt.clear()

    def _find(self, link: Link) -> None:
        self._link = link
        self._doubt.clear()
        if self._down:
            self._down = False
            self._observer.log(rows.LOG_RECOVERED, dependency=DEPENDENCY, server=self._name)

    def _lose(self, failure: Exception) -> None:
        """Say once that it is gone: by its class only, since a text may hold anything."""
        if not self._down:
            self._down = True
            self._observer.inc(rows.DEGRADATIONS_TOTAL, DEPENDENCY)
            kind = type(_first(failure)).__name__
            self._observer.log(rows.LOG_DEGRADED, dependency=DEPENDENCY, server=self._name, error_type=kind)


def _first(failure: BaseException) -> BaseException:
    """Return what a group of exceptions began with."""
    while isinstance(failure, BaseExceptionGroup):
        failure = failure.exceptions[0]
    return failure


def _load() -> type[Link]:
    """Import the SDK. Blocks for a second or more."""
    from service.tools.mcp_link import Link  # noqa: PLC0415 -- who has no server of tools need not load it

    return Link
