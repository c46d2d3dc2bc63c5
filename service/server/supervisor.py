"""Several workers: start them, restart those that die, stop them together, and none outlives the parent.

Used by `service.server.run` for `--workers N`. Workers are spawned, not forked: a fork copies locks and threads in
whatever state they are.
"""

from __future__ import annotations

import asyncio
import logging
import multiprocessing
import os
import signal
import threading
from multiprocessing.connection import wait
from typing import TYPE_CHECKING

from service.server.drain import ignore_signals

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from multiprocessing.context import SpawnProcess
    from typing import Any

_FIRST_DELAY, _LAST_DELAY = 0.1, 10.0  # seconds before a restart: doubled each time
_STEADY_SECONDS = 60.0  # a worker that lived this long was well: its restart starts from the first delay again

log = logging.getLogger(__name__)


class Supervisor:
    """Keeps one process alive for each entry of `arguments`.

    Args:
        target: a module's function, run in each process as `target(ready, *arguments)`; it sends a byte through the
            connection `ready` when it serves, and drains on SIGTERM.
        arguments: one tuple per worker.
        grace_seconds: from the first signal to SIGKILL for a worker that has not ended.
        on_started: called once, when the first worker serves.
    """

    def __init__(
        self,
        *,
        target: Callable[..., None],
        arguments: Sequence[tuple[Any, ...]],
        grace_seconds: float,
        on_started: Callable[[], None],
    ) -> None:
        self._context = multiprocessing.get_context("spawn")
        self._target = target
        self._arguments = arguments
        self._grace_seconds = grace_seconds
        self._on_started = on_started
        self._started = False
        self._living: set[SpawnProcess] = set()
        self._clean = True

    def run(self) -> int:
        """Watch until stopped by a signal.

        Returns:
            0 when every worker ended cleanly; 1 when one did not, or when the application never came up.
        """
        asyncio.run(self._watch())
        return 0 if self._clean else 1

    async def _watch(self) -> None:
        self._stopping = asyncio.Event()
        loop = asyncio.get_running_loop()
        for sig in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(sig, self._stop)
        async with asyncio.TaskGroup() as group:
            for arguments in self._arguments:
                group.create_task(self._keep(arguments))
        for sig in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(sig)
        ignore_signals()

    def _stop(self) -> None:
        """Pass each signal on: the worker makes the difference between the first and the next."""
        if not self._stopping.is_set():
            self._stopping.set()
            asyncio.get_running_loop().call_later(self._grace_seconds, self._kill)
        for worker in self._living:
            worker.terminate()

    def _kill(self) -> None:
        for worker in self._living:
            self._clean = False
            worker.kill()

    async def _keep(self, arguments: tuple[Any, ...]) -> None:
        loop = asyncio.get_running_loop()
        delay = _FIRST_DELAY
        while not self._stopping.is_set():
            began = loop.time()
            code = await self._live(arguments)
            if self._stopping.is_set():
                return
            if loop.time() - began > _STEADY_SECONDS:
                delay = _FIRST_DELAY
            log.error("a worker died", extra={"exit_code": code, "restart_in_seconds": delay})
            await self._pause(delay)
            delay = min(2 * delay, _LAST_DELAY)

    async def _pause(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._stopping.wait()
        except TimeoutError:
            return

    async def _live(self, arguments: tuple[Any, ...]) -> int | None:
        """One process from its start to its end; returns its exit code (negative: the signal that ended it)."""
        ours, theirs = self._context.Pipe(duplex=False)
        worker = self._context.Process(target=self._target, args=(theirs, *arguments))
        worker.start()
        theirs.close()
        self._living.add(worker)
        try:
            with ours:
                await _readable(ours.fileno())  # a byte, or the end of a process that never sent one
                served = _has_byte(ours)
                self._came_up() if served else self._failed_to_start()
                await _readable(worker.sentinel)
        finally:
            self._living.discard(worker)
            worker.kill()  # it has ended, unless this task was cancelled
            worker.join()
        if served and self._stopping.is_set() and worker.exitcode != 0:
            self._clean = False
        return worker.exitcode

    def _came_up(self) -> None:
        if not self._started:
            self._started = True
            self._on_started()

    def _failed_to_start(self) -> None:
        """If none has ever served, none will: the settings, the port or the application are at fault."""
        if not self._started and not self._stopping.is_set():
            self._clean = False
            self._stop()


def end_with_parent(grace_seconds: float) -> None:
    """In a worker: when the parent is gone, however it went, drain as if asked to, and be gone after the grace."""
    parent = multiprocessing.parent_process()
    if parent is None:
        raise RuntimeError("not a worker")

    def watch() -> None:
        wait([parent.sentinel])
        os.kill(os.getpid(), signal.SIGTERM)
        threading.Event().wait(grace_seconds)
        os.kill(os.getpid(), signal.SIGKILL)

    threading.Thread(target=watch, name="parent-watch", daemon=True).start()


def _has_byte(connection: Any) -> bool:
    try:
        return bool(connection.recv_bytes())
    except EOFError:
        return False


async def _readable(descriptor: int) -> None:
    loop = asyncio.get_running_loop()
    arrived = asyncio.Event()
    loop.add_reader(descriptor, arrived.set)
    try:
        await arrived.wait()
    finally:
        loop.remove_reader(descriptor)
