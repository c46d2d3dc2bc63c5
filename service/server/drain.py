"""uvicorn's server, taught to drain: open streams are told before anything is closed.

Made by `service.server.run`, one in each process.

uvicorn's own answer to SIGTERM closes the listener first, tells open streams nothing, and cancels them after a time.
Here the listener stays open while the application drains, so that `/readyz` can say 503 and a new turn is refused with
a reason; uvicorn's shutdown follows when nothing is left for it to cut.
"""

from __future__ import annotations

import asyncio
import logging
import signal
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import uvicorn

if TYPE_CHECKING:
    import socket
    from types import FrameType

    from service.server.limits import ServerLimits

Drain = Callable[[float], Awaitable[None]]
"""`await drain(seconds)`: refuse what is new, let open streams end within `seconds`, then end each with its terminal
event, and return when none is left. At a second signal it is called again with 0, while the first call still waits."""

_TICKS_PER_SECOND = 10  # uvicorn calls on_tick every 0.1 s
_HURRY, _FORCE = 2, 3  # what the second and the third signal ask for

log = logging.getLogger(__name__)


class DrainingServer(uvicorn.Server):
    """One listening process: sweeps its connections, drains on a signal, and exits with 0."""

    def __init__(
        self,
        config: uvicorn.Config,
        *,
        limits: ServerLimits,
        drain: Drain,
        drain_seconds: float,
        on_started: Callable[[], None],
    ) -> None:
        super().__init__(config)
        self._limits = limits
        self._drain = drain
        self._drain_seconds = drain_seconds
        self._on_started = on_started
        self._signals = 0
        self._draining: set[asyncio.Task[None]] = set()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._ticks_per_sweep = max(1, round(limits.sweep_seconds * _TICKS_PER_SECOND))

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start the application and listen."""
        await super().startup(sockets)
        self._loop = asyncio.get_running_loop()
        if not self.should_exit:
            self._on_started()

    async def on_tick(self, counter: int) -> bool:
        """Enforce the connections' time limits, all in one pass."""
        if counter % self._ticks_per_sweep == 0:
            now = asyncio.get_running_loop().time()
            for connection in tuple(self.server_state.connections):
                connection.sweep(now)  # type: ignore[union-attr]  # ours: the configuration names no other protocol
        return await super().on_tick(counter)

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Hear signals while serving. One that comes after the end must not make a killed process of a clean one."""
        with super().capture_signals():
            yield
        ignore_signals()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:  # noqa: ARG002 - a signal handler's arguments
        """Start the drain; the second signal ends it at once, the third waits for nothing.

        uvicorn notes the signals and raises them again at the end, which would end a clean exit with the signal.
        """
        if self._loop is None:
            self.should_exit = True  # still starting: nothing is open
        else:
            self._loop.call_soon_threadsafe(self._signalled)

    def _signalled(self) -> None:
        self._signals += 1
        if self._signals >= _FORCE:
            self.force_exit = self.should_exit = True
            return
        seconds = 0.0 if self._signals == _HURRY else self._drain_seconds
        self._draining.add(asyncio.get_running_loop().create_task(self._wind_down(seconds), name="drain"))

    async def _wind_down(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds + self._limits.cleanup_seconds):
                await self._drain(seconds)
        except Exception as error:  # noqa: BLE001 - whatever went wrong in it, the process must end
            log.error("drain failed", extra={"error": type(error).__name__})  # noqa: TRY400 - the text may hold contents
        await self._end(self.server_state.tasks)
        self.should_exit = True

    async def _end(self, tasks: set[asyncio.Task[Any]]) -> None:
        """Wait until requests have ended; cancel those that do not, and wait for their cleaning up."""
        waiting = set(tasks)
        if waiting:
            _, waiting = await asyncio.wait(waiting, timeout=self._limits.cleanup_seconds)
        for task in waiting:
            task.cancel()
        if waiting:
            _, waiting = await asyncio.wait(waiting, timeout=self._limits.cleanup_seconds)
        if waiting:
            log.error("requests outlived the drain", extra={"requests": len(waiting)})


def ignore_signals() -> None:
    """Ignore from now on what asks this process to end: it ends. Does nothing outside of the main thread."""
    if threading.current_thread() is threading.main_thread():
        for sig in (signal.SIGTERM, signal.SIGINT):
            signal.signal(sig, signal.SIG_IGN)
