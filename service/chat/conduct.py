"""Who owns a request: runs the flow beside the delivery, watches the client, and writes how it ended. Exactly once.

Three tasks: the owner (the server's task for this request) delivers; the flow produces; the watcher waits for the
client to leave. Whatever happens to one, the owner waits until the others are done before it returns.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from service.chat.account import Account
from service.chat.events import Error, JobAccepted
from service.chat.flow import answer, completed
from service.chat.plan import SETTLE, phase_of
from service.chat.steps import state_persist, stream_emit
from service.chat.turn import Turn
from service.errors import Cancelled, Cause, ForebayError, Internal, PhaseTimeout, ShuttingDown
from service.runtime.outbox import Outbox
from service.runtime.phase import Total, phase
from service.runtime.shelter import sheltered, until_done
from telemetry.catalogue import LOG_BUG, LOG_UNSETTLED

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from service.chat.account import Books
    from service.chat.door import Door
    from service.chat.events import Event
    from service.chat.parts import Parts
    from service.ports import Status
    from telemetry.observe import Span

    Flow = Callable[[Turn, "Parts", "Door"], Awaitable[None]]


def new_turn(use: Parts, door: Door, span: Span) -> Turn:
    """Return the state of a request that has just come in: its clock starts here."""
    now, plan = door.headers_at, use.budgets
    return Turn(
        message_id=use.world.new_id("msg"),
        user_message_id=use.world.new_id("msg"),
        instance_id=use.instance_id,
        route=door.route,
        started=now,
        total=Total(now + plan.total),
        plan=plan,
        observer=use.observer.within(span),
        span=span,
        outbox=Outbox(use.habits.stream_queue),
        wants_phases=door.wants_phases,
    )


async def conduct(
    turn: Turn, use: Parts, door: Door, *, do: Flow = answer, account: Callable[[Turn], Books] = Account
) -> None:
    """Serve one request to its end, whatever that is; afterwards no task, place, span or stream of it is left.

    Args:
        turn: the request.
        use: what it may use.
        door: how it came in.
        do: what is done for it.
        account: who counts it.
    """
    books = account(turn)
    flow = asyncio.create_task(_run(turn, use, door, do), name=f"flow {turn.message_id}")
    watcher = asyncio.create_task(_watch(turn, door), name=f"watch {turn.message_id}")
    use.live.add(turn)
    try:
        await _answer_client(turn, use, door)
    except asyncio.CancelledError:
        turn.cancel(Cause.SHUTDOWN)  # the server gives up on us; the turn is to end properly all the same
        raise
    finally:
        watcher.cancel()
        if not flow.done():
            flow.cancel()
        try:
            await until_done(flow, watcher)
        finally:
            use.live.remove(turn)
            turn.outbox.discard()
            turn.settle()
            books.close()
            _offer(turn, use)
            turn.forget()


def _offer(turn: Turn, use: Parts) -> None:
    """Offer a new answer to be evaluated: its client has had the end, and nothing is waited for."""
    if turn.committed and turn.answer is not None and turn.answered is None:
        assert turn.principal is not None  # noqa: S101  (types: an answer has somebody whose it is)
        use.sample(turn.principal, turn.message_id)


async def _answer_client(turn: Turn, use: Parts, door: Door) -> None:
    """Refuse before the stream, or deliver it; drop a reader that stalls."""
    first = await turn.outbox.take()
    door.announce(turn.headers)
    try:
        if turn.refusal is None:
            await stream_emit.deliver(turn, door, first, use.habits.keep_alive)
        elif turn.cause is not Cause.CLIENT_DISCONNECT:
            async with asyncio.timeout(turn.plan.emit):
                await door.refuse(turn.refusal, turn.span.trace_id)
    except (PhaseTimeout, TimeoutError):
        turn.cancel(Cause.STALLED_READER)
        door.abort()


async def _watch(turn: Turn, door: Door) -> None:
    """Stop the turn when its client leaves: before the commit that cancels it, after it that is only counted."""
    await door.left()
    turn.client_left_in = "stream.emit" if turn.committed else turn.where
    turn.cancel(Cause.CLIENT_DISCONNECT)


async def _run(turn: Turn, use: Parts, door: Door, do: Flow) -> None:
    """Run the flow, settle how it ended, and close the outbox with the event that says so."""
    turn.task = asyncio.current_task()
    try:
        if turn.cause is not None:
            raise asyncio.CancelledError  # stopped before it had begun
        await do(turn, use, door)
    except asyncio.CancelledError:
        turn.note_released()
        await _end(turn, use, _stopped_by(turn.cause))
        raise
    except ForebayError as error:
        await _end(turn, use, error)
    except Exception as error:  # noqa: BLE001  (the border: what nobody foresaw must not reach a client)
        turn.observer.log(LOG_BUG, exc_info=error)
        await _end(turn, use, Internal())
    else:
        turn.settle()  # before the client is told: its next request meets what this one used
        turn.outbox.close(_success(turn))


async def _end(turn: Turn, use: Parts, error: ForebayError) -> None:
    """A turn that did not go through: say what it became, in the store and to the client.

    It may have been committed in the very moment in which it was stopped: then it is complete, and nothing else.
    """
    if turn.committed:
        turn.outbox.close(_success(turn))
        return
    turn.error = error
    if not turn.outbox.opened:
        turn.refusal = error
    last = None if turn.refusal else _last_words(turn, error)
    if turn.cause is Cause.SHUTDOWN:
        turn.outbox.close(last)  # all streams at once, and in a hurry: nobody waits for the state database
    try:
        if turn.begun:
            await sheltered(_settle(turn, use, error))
    finally:  # whatever becomes of that: who waits for the end must see it
        turn.outbox.close(last)


def _success(turn: Turn) -> Event:
    return completed(turn) if turn.accepted is None else JobAccepted(accepted=turn.accepted)


def _last_words(turn: Turn, error: ForebayError) -> Error:
    return Error(
        code=error.code,
        message=error.detail,
        phase=phase_of(error.phase or turn.where),
        retryable=error.retryable,
        trace_id=turn.span.trace_id,
        retry_after=error.retry_after,
    )


async def _settle(turn: Turn, use: Parts, error: ForebayError) -> None:
    """Write the turn's status over `streaming`, under a fresh budget; what cannot be written is written later."""
    status: Status = "failed"
    if turn.cause is not None:
        status = "cancelled"
    elif isinstance(error, PhaseTimeout):
        status = "timed_out"
    ending = state_persist.ending(turn, status, error.code, use.world.now())
    try:
        with phase(turn, SETTLE, budget=turn.plan.persist):
            await use.store.end_turn(ending)
    except ForebayError as failure:
        use.unsettled.append(ending)
        turn.observer.log(LOG_UNSETTLED, message_id=turn.message_id, code=failure.code)


def _stopped_by(cause: Cause | None) -> ForebayError:
    return ShuttingDown() if cause is Cause.SHUTDOWN else Cancelled()
