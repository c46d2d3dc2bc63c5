"""What a process does beside its requests: it shows that it lives, hears of cancellations from others, and audits.

Started and stopped by service/app.py. A failure of one round is told by whoever failed, and the next round tries again.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from service.errors import Cause, ForebayError
from telemetry.catalogue import LOG_INSTANCE_LOST, LOG_TOOL_INDETERMINATE, OTHER, TOOL_CALLS_TOTAL

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable

    from service.chat.parts import Parts
    from service.runtime.gate import Gate
    from service.store import StateStore

CANCEL_POLL = 0.25  # seconds: how soon a cancellation that came in at another process is seen
AUDIT_EVERY = 10.0  # seconds
FORGET_EVERY = 600.0  # seconds
JOBS_KEPT = 7 * 86_400.0  # seconds after the end: results and events


@dataclass(slots=True)
class Upkeep:
    """The periodic work of one process."""

    use: Parts
    store: StateStore
    gates: Iterable[Gate]
    beat_every: float
    _tasks: list[asyncio.Task[None]] = field(default_factory=list)

    def start(self) -> None:
        """Begin; `stop` ends it."""
        rounds = (
            (self.beat_every, self._beat),
            (CANCEL_POLL, self._hear),
            (AUDIT_EVERY, self._audit),
            (FORGET_EVERY, self._forget),
        )
        self._tasks = [asyncio.create_task(_every(seconds, work), name=work.__name__) for seconds, work in rounds]

    async def stop(self) -> None:
        """End all of it and wait until it has ended."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _beat(self) -> None:
        """Show that this instance lives, take over from the dead, write what could not be written before."""
        await self.store.beat(self.use.instance_id)
        for message_id in await self.store.interrupt_orphans(self.use.world.now()):
            self.use.observer.log(LOG_INSTANCE_LOST, message_id=message_id)
        for call_id, tool in await self.store.settle_orphaned_calls():
            known = tool if tool in self.use.toolbox.equipped else OTHER
            self.use.observer.inc(TOOL_CALLS_TOTAL, known, "indeterminate")
            self.use.observer.log(LOG_TOOL_INDETERMINATE, tool=tool, call_id=call_id)
        while self.use.unsettled:
            await self.store.end_turn(self.use.unsettled[0])
            self.use.unsettled.pop(0)

    async def _hear(self) -> None:
        """Stop the turns that somebody asked another process to stop, and go on with the calls decided on there."""
        if not self.use.live:
            return
        for message_id in await self.store.cancel_requests_for(self.use.instance_id):
            if (turn := self.use.live.get(message_id)) is not None:
                turn.cancel(Cause.CLIENT_CANCEL)
        approvals = self.use.toolbox.approvals
        if approvals.waiting:
            for call_id in await self.store.decided_calls(approvals.waiting):
                approvals.wake(call_id)

    async def _forget(self) -> None:
        """Forget Idempotency-Keys whose day is over, and jobs whose results nobody has come for."""
        await self.store.forget_expired_keys()
        while await self.store.jobs.forget(JOBS_KEPT):
            pass

    async def _audit(self) -> None:
        """Count places whose owner has ended, which is always 0, and let circuits that nobody asks get over it."""
        for gate in self.gates:
            gate.audit()
        self.use.models.age(asyncio.get_running_loop().time())


async def _every(seconds: float, work: Callable[[], Awaitable[None]]) -> None:
    while True:
        with suppress(ForebayError):  # told where it happened; the next round tries again
            await work()
        await asyncio.sleep(seconds)
