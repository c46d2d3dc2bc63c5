"""An event loop whose time is a number: a test of a minute takes a millisecond, and one seed gives one run, exactly.

Nothing waits for real. When no callback is ready, time jumps to the next timer; the callbacks that are ready at one
moment run in an order drawn from the seed. Threads, processes and sockets are refused, since their timing cannot be
repeated. What a real loop would hide ends the run with an error: a deadlock, a run without an end, tasks and generators
left over, exceptions that nobody retrieved.
"""

from __future__ import annotations

import asyncio
import heapq
import io
import itertools
import random
from collections.abc import Coroutine
from typing import Any, TypeVar

from service.runtime.world import World

Result = TypeVar("Result")

EPOCH = 1_750_000_000.0  # the wall clock at loop time 0, in Unix seconds
LIMIT = 100_000.0  # virtual seconds: past the 24 h that an idempotency key is kept
MAX_STEPS_AT_ONE_TIME = 200_000  # far above what any test does between two timers

_REFUSED = (
    "run_in_executor",
    "getaddrinfo",
    "getnameinfo",
    "create_connection",
    "create_server",
    "create_unix_connection",
    "create_unix_server",
    "create_datagram_endpoint",
    "connect_accepted_socket",
    "connect_read_pipe",
    "connect_write_pipe",
    "subprocess_exec",
    "subprocess_shell",
    "sock_recv",
    "sock_recv_into",
    "sock_recvfrom",
    "sock_sendall",
    "sock_sendto",
    "sock_connect",
    "sock_accept",
    "sock_sendfile",
    "sendfile",
    "start_tls",
    "add_reader",
    "add_writer",
    "add_signal_handler",
)


class VirtualLoopError(AssertionError):
    """A run in virtual time that did not end as it should."""


class _NoIO:
    """What the base class asks for events: there are none."""

    def select(self, timeout: float | None) -> tuple[()]:
        return ()


class VirtualLoop(asyncio.BaseEventLoop):
    """An asyncio event loop in virtual time, in seconds from 0."""

    def __init__(self, seed: int = 0, *, shuffle: bool = True, limit: float = LIMIT) -> None:
        super().__init__()
        self._selector = _NoIO()
        self._clock_resolution = 0.0  # a timer never fires early
        self._time = 0.0
        self._limit = limit
        self._order = random.Random(seed) if shuffle else None
        self._steps_at_this_time = 0
        self.problems: list[str] = []
        self.set_exception_handler(_note_problem)

    def time(self) -> float:
        return self._time

    def _run_once(self) -> None:
        if not self._ready and not self._stopping:
            self._advance()
        while self._scheduled and self._scheduled[0]._when <= self._time:
            self._ready.append(self._pop_timer())
        if self._order and len(self._ready) > 1:
            ready = list(self._ready)
            self._order.shuffle(ready)
            self._ready.clear()
            self._ready.extend(ready)
        self._steps_at_this_time += 1
        if self._steps_at_this_time > MAX_STEPS_AT_ONE_TIME:
            raise VirtualLoopError(f"time stands still at {self._time} s: something spins\n{_stacks(self)}")
        super()._run_once()

    def _advance(self) -> None:
        """Let time jump to the next timer."""
        while self._scheduled and self._scheduled[0]._cancelled:
            self._pop_timer()
        if not self._scheduled:
            raise VirtualLoopError(f"deadlock at {self._time} s: nothing is ready, nothing is timed\n{_stacks(self)}")
        if self._scheduled[0]._when > self._limit:
            raise VirtualLoopError(f"still running after {self._limit} virtual seconds\n{_stacks(self)}")
        if self._scheduled[0]._when > self._time:
            self._time = self._scheduled[0]._when
            self._steps_at_this_time = 0

    def _pop_timer(self) -> asyncio.TimerHandle:
        handle = heapq.heappop(self._scheduled)
        handle._scheduled = False
        if handle._cancelled:
            self._timer_cancelled_count -= 1
        return handle

    def _process_events(self, event_list: tuple[()]) -> None:
        """Nothing comes from outside."""

    def _write_to_self(self) -> None:
        """Nobody sleeps in select, nobody is to be woken."""

    def _asyncgen_finalizer_hook(self, generator: Any) -> None:
        self.problems.append(f"generator dropped without aclose(): {generator.__qualname__}")
        super()._asyncgen_finalizer_hook(generator)

    def leftovers(self) -> list[str]:
        """Return what is wrong at the end of a run: what was noted on the way, open tasks and generators."""
        generators = [g for g in self._asyncgens if g.ag_frame is not None]
        tasks = [_stack(task) for task in asyncio.all_tasks(self)]
        return [
            *self.problems,
            *(f"generator left open: {generator.__qualname__}" for generator in generators),
            *(f"task left over:\n{stack}" for stack in tasks),
        ]


def _refuse(name: str) -> Any:
    def refused(self: VirtualLoop, *args: Any, **kwargs: Any) -> Any:
        raise VirtualLoopError(f"{name}() in virtual time: its timing cannot be repeated; use a fake, or a real loop")

    return refused


for _name in _REFUSED:
    setattr(VirtualLoop, _name, _refuse(_name))


def run(coro: Coroutine[Any, Any, Result], *, seed: int = 0, shuffle: bool = True, limit: float = LIMIT) -> Result:
    """Run `coro` to its end in virtual time and return its result.

    Args:
        coro: what to run.
        seed: draws the order of callbacks that are ready at the same moment.
        shuffle: False keeps asyncio's own order, first in, first out.
        limit: virtual seconds after which the run counts as endless.

    Raises:
        VirtualLoopError: on a deadlock, an endless run, or something left over at the end.
        BaseException: whatever `coro` raises, with a note of the seed and the virtual time.
    """
    loop = VirtualLoop(seed, shuffle=shuffle, limit=limit)
    with asyncio.Runner(loop_factory=lambda: loop) as runner:
        try:
            result = runner.run(coro)
            if problems := loop.leftovers():
                raise VirtualLoopError("\n".join(problems))
        except BaseException as error:
            error.add_note(f"seed={seed} virtual time={loop.time():.6f} s")
            raise
        finally:
            loop.problems.clear()
    return result


def virtual_world(seed: int = 0) -> World:
    """Return a world that is a pure function of the seed: `now` follows the running loop, ids are counted."""
    numbers = itertools.count(1)
    return World(now=_virtual_now, new_id=lambda prefix: f"{prefix}_{next(numbers)}", random=random.Random(seed))


def _virtual_now() -> float:
    try:
        return EPOCH + asyncio.get_running_loop().time()
    except RuntimeError:
        return EPOCH


def _note_problem(loop: VirtualLoop, context: dict[str, Any]) -> None:
    loop.problems.append(f"{context['message']}: {context.get('exception')!r}")


def _stack(task: asyncio.Task[Any]) -> str:
    text = io.StringIO()
    task.print_stack(limit=8, file=text)
    return text.getvalue()


def _stacks(loop: VirtualLoop) -> str:
    return "\n".join(_stack(task) for task in asyncio.all_tasks(loop))
