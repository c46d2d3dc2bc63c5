"""Finish what must be finished, although somebody cancels: commits, releases, closings.

`asyncio.shield` leaves an orphan when a second cancellation comes. Here the caller stays until the work is done and
raises the cancellation afterwards. The work bounds itself: this waits without a limit of its own.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Coroutine

T = TypeVar("T")


async def sheltered(work: Coroutine[Any, Any, T]) -> T:
    """Run `work` in a task of its own until it ends, then return its result, or raise the cancellation that came."""
    task = asyncio.ensure_future(work)
    try:
        await until_done(task)
    except asyncio.CancelledError:
        if not task.cancelled() and task.exception() is not None:
            # Both happened; the caller is being cancelled and cannot act on the failure, but it must not vanish.
            raise asyncio.CancelledError from task.exception()
        raise
    return task.result()


async def until_done(*tasks: asyncio.Future[Any]) -> None:
    """Wait until all `tasks` are done, however often this task is cancelled; then raise that cancellation."""
    cancelled: asyncio.CancelledError | None = None
    pending = {task for task in tasks if not task.done()}
    while pending:
        try:
            _, pending = await asyncio.wait(pending)
        except asyncio.CancelledError as error:  # cancellation: raised below, once all are done
            cancelled = error
            pending = {task for task in pending if not task.done()}
    if cancelled is not None:
        raise cancelled


async def together(*work: Coroutine[Any, Any, Any]) -> tuple[Any, ...]:
    """Run all of `work` at once; the first failure cancels the others and is raised as itself, not as a group."""
    if len(work) == 1:
        return (await work[0],)
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(one) for one in work]
    except BaseExceptionGroup as failures:
        raise failures.exceptions[0] from None
    return tuple(task.result() for task in tasks)
