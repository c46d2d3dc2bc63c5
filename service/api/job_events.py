"""The events of one job as a stream: what the log has, then what is added to it, until the job has ended.

The log is in the database, so a reader may leave at any time and go on anywhere, after the last event that it has seen.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from starlette.responses import Response

from service.api.http_door import SSE_HEADERS
from service.api.job_shapes import encoded
from service.api.wire import Wire
from service.chat.events import KEEP_ALIVE
from service.runtime.shelter import until_done
from service.work import LAST_EVENTS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from starlette.types import Receive, Scope, Send

    from service.jobs.desk import Desk
    from service.jobs.followers import Followers
    from service.work import JobEvent, StoredJob

LOOK_EVERY = 0.5  # seconds
AT_ONCE = 200  # events of one look
PULSE = 15.0  # seconds of silence
WRITE_LIMIT = 10.0  # seconds for one write that the reader does not take


class JobEvents(Response):
    """Owns one reader of a job's events. `first` are those that were read before it was known to begin."""

    def __init__(self, desk: Desk, followers: Followers, job: StoredJob, first: Sequence[JobEvent], after: int) -> None:
        super().__init__()
        self._desk, self._followers, self._job_id = desk, followers, job.job_id
        self._first, self._after = first, after
        self._over = job.ended_at is not None and not first  # the reader has seen the last one

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Tell until the job has ended, the reader leaves or stalls, or this process ends."""
        wire = Wire(scope, receive, send, max_body=0)
        await wire.body()
        telling = asyncio.create_task(self._tell(wire))
        leaving = asyncio.create_task(wire.left())
        try:
            with self._followers.one_more():
                await asyncio.wait((telling, leaving), return_when=asyncio.FIRST_COMPLETED)
        finally:
            telling.cancel()
            leaving.cancel()
            await until_done(telling, leaving)
        if not telling.cancelled() and telling.exception() is not None:
            wire.abort()  # the stream is not whole, and must not look so: the reader comes again

    async def _tell(self, wire: Wire) -> None:
        await wire.start(200, SSE_HEADERS)
        events, silent = self._first, 0.0
        while True:
            ended = bool(events) and events[-1].type in LAST_EVENTS
            last = ended or self._over or (self._followers.closing and not events)
            silent = 0.0 if events else silent + LOOK_EVERY
            if events or last or silent >= PULSE:
                silent = 0.0
                await self._write(wire, events, last=last)
            if last:
                return
            if len(events) < AT_ONCE:
                await self._followers.wait(LOOK_EVERY)
            events = await self._look()

    async def _look(self) -> Sequence[JobEvent]:
        return await self._desk.log(self._job_id, self._after, AT_ONCE)

    async def _write(self, wire: Wire, events: Sequence[JobEvent], *, last: bool) -> None:
        data = b"".join(encoded(self._job_id, event) for event in events)
        if events:
            self._after = events[-1].number
        async with asyncio.timeout(WRITE_LIMIT):
            await wire.write(data or (b"" if last else KEEP_ALIVE), last=last)


async def follow(desk: Desk, followers: Followers, job: StoredJob, after: int) -> JobEvents:
    """Return the response for a job that exists; raise PersistFailed, Overloaded or ShuttingDown while it can."""
    with followers.one_more():
        first = await desk.log(job.job_id, after, AT_ONCE)
    return JobEvents(desk, followers, job, first, after)
