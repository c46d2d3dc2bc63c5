"""state.persist: the turn in the state database: begun, completed by compare-and-set, or settled as what it became."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from service.chat.events import keep
from service.errors import Conflict, PersistFailed
from service.ports import Ending, NewTurn

if TYPE_CHECKING:
    from service.chat.steps.finalize import Answer
    from service.chat.turn import Turn
    from service.ports import Status, Store


async def begin(turn: Turn, store: Store, now: float) -> None:
    """Write the session, the user's message and the assistant's, which is streaming from now on."""
    assert turn.principal is not None  # noqa: S101  (types: the flow authenticated before)
    assert turn.ask is not None  # noqa: S101
    turn.begun = True  # from here on the store may know it, whatever becomes of this write
    new = NewTurn(
        tenant=turn.principal.tenant,
        user=turn.principal.user,
        session_id=turn.ask.session_id,
        user_message_id=turn.user_message_id,
        message_id=turn.message_id,
        question=turn.ask.message,
        model=turn.model,
        instance_id=turn.instance_id,
        now=now,
        once=turn.once,
    )
    try:
        await store.begin_turn(new, on_commit=turn.begun_as)
    except Conflict:
        turn.begun = False
        raise


async def complete(turn: Turn, store: Store, answer: Answer, now: float) -> None:
    """Write the answer over `streaming`: the commit is the moment of completion. Raise PersistFailed if it was not."""
    final = replace(
        ending(turn, "completed", "", now),
        text=answer.text,
        finish_reason=answer.finish_reason,
        citations=answer.citations,
    )
    if not await store.end_turn(final, on_commit=turn.mark_committed):
        raise PersistFailed("The message was no longer streaming")


def ending(turn: Turn, status: Status, error_code: str, now: float) -> Ending:
    """Return how this turn ended; what was generated until now is kept as partial text."""
    return Ending(
        message_id=turn.message_id,
        status=status,
        text="".join(turn.text),
        now=now,
        prompt_tokens=turn.tokens.prompt,
        generated_tokens=turn.tokens.generated,
        error_code=error_code,
        run=turn.run,
        events=keep(turn.kept),
    )
