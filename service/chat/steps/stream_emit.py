"""stream.emit: the consumer. Whatever waits in the outbox goes to the reader in one write; a stalled reader is dropped.

It runs beside the flow, in the task that owns the request, from the first event to the last. What comes alone while it
waits, for a reader that keeps up, it has the flow's own task write.
"""

from __future__ import annotations

import asyncio
from math import inf
from typing import TYPE_CHECKING, Protocol

from service.chat.plan import STREAM_EMIT
from service.runtime.phase import phase
from telemetry.catalogue import Attr

if TYPE_CHECKING:
    from collections.abc import Sequence

    from service.chat.events import Sent
    from service.chat.turn import Turn


class Writer(Protocol):
    """How events reach this client: SSE of ours, or OpenAI's, streamed or assembled."""

    async def write(self, events: Sequence[Sent], *, last: bool) -> None:
        """Send `events` in one write, and end the response after the `last`; [] after a silence: show that we live."""
        ...

    def write_now(self, events: Sequence[Sent]) -> bool:
        """Send `events`, none of them the last, if nothing is to be waited for; False, having sent nothing, else."""
        ...


async def deliver(turn: Turn, writer: Writer, first: Sequence[Sent], keep_alive: float) -> None:
    """Write `first` and the turn's events after it until the last one.

    Raises:
        PhaseTimeout: one write was not taken within its budget.
    """
    now, outbox = asyncio.get_running_loop().time, turn.outbox
    with phase(turn, STREAM_EMIT, budget=inf) as step:
        pulse = _Pulse(turn, keep_alive)

        def wrote(events: Sequence[Sent]) -> None:
            pulse.last = at = now()
            if turn.first_token_at is None and any(isinstance(event, str) for event in events):
                turn.first_token_at = at

        def straight(events: Sequence[Sent]) -> bool:
            """Send what comes alone, from the task that has it. What comes in one tick of the clock is to gather."""
            if pulse.last == now() or not writer.write_now(events):
                return False
            wrote(events)
            return True

        try:
            events, last = first, outbox.drained
            await _write(turn, step, writer, events, last=last)  # with the head: nothing of it can go before
            outbox.straight = straight
            while not last:
                wrote(events)
                events = await outbox.take()
                last = outbox.drained
                if last or not events or not writer.write_now(events):
                    await _write(turn, step, writer, events, last=last)
            wrote(events)
        finally:
            outbox.straight = None
            pulse.stop()
            step.note(Attr.BLOCKED_ON_READER_MS, round(turn.reader_blocked * 1e3))


async def _write(turn: Turn, step: phase, writer: Writer, events: Sequence[Sent], *, last: bool) -> None:
    """Write `events` as soon as the reader takes them, within its budget."""
    now = asyncio.get_running_loop().time
    since = now()
    step.expect(STREAM_EMIT.name, turn.plan.emit)
    try:
        await writer.write(events, last=last)
    finally:
        turn.reader_blocked += now() - since
    step.relax()


class _Pulse:
    """Wakes the writer after `seconds` of silence: one timer per stream, armed again only when it fires."""

    __slots__ = ("_handle", "_loop", "_seconds", "_turn", "last")

    def __init__(self, turn: Turn, seconds: float) -> None:
        self._turn, self._seconds = turn, seconds
        self._loop = asyncio.get_running_loop()
        self.last = self._loop.time()
        self._handle = self._loop.call_at(self.last + seconds, self._beat)

    def stop(self) -> None:
        self._handle.cancel()

    def _beat(self) -> None:
        now = self._loop.time()
        if now >= self.last + self._seconds:  # the sum that armed it: a difference may round to less
            self._turn.outbox.nudge()
            self.last = now
        self._handle = self._loop.call_at(self.last + self._seconds, self._beat)
