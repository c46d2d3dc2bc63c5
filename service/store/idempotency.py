"""Statements on Idempotency-Keys: what was asked for once is not begun twice. Called by store.py alone.

A key belongs to (tenant, user, route) and is kept for a day with the hash of its body. It is claimed in the same
transaction that begins the work, so there is never a key without work nor work that its key does not know.
"""

from __future__ import annotations

import json
from typing import Any

from service.errors import Conflict
from service.ports import Answered, Begun, NewTurn, Once
from service.store.statements import Operation, begin_turn

KEPT = 86_400.0  # seconds

_FORGET_THIS = """
DELETE FROM idempotency WHERE tenant_id = ? AND user_id = ? AND route = ? AND key = ? AND expires_at <= ?
"""

_CLAIM = """
INSERT INTO idempotency (tenant_id, user_id, route, key, body_hash, message_id, user_message_id, created_at, expires_at)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING RETURNING key
"""

_CLAIMED = """
SELECT body_hash, message_id, user_message_id FROM idempotency
WHERE tenant_id = ? AND user_id = ? AND route = ? AND key = ?
"""

_FORGET_EXPIRED = "DELETE FROM idempotency WHERE expires_at <= ?"

_MESSAGE = """
SELECT status, session_id, run, text, model, finish_reason, prompt_tokens, generated_tokens, citations, events
FROM messages WHERE message_id = ?
"""

_BEGIN_AGAIN = """
UPDATE messages SET status = 'streaming', text = '', model = ?, instance_id = ?, finish_reason = '', prompt_tokens = 0,
                    generated_tokens = 0, citations = '[]', error_code = '', events = '[]', run = run + 1,
                    updated_at = ?
WHERE message_id = ? AND run = ? AND status IN ('cancelled', 'failed', 'timed_out', 'interrupted') RETURNING run
"""

_COMPLETED = """
SELECT messages.message_id, idempotency.user_message_id, messages.session_id, messages.run, text, model, finish_reason,
       prompt_tokens, generated_tokens, citations, events
FROM idempotency JOIN messages ON messages.message_id = idempotency.message_id
WHERE idempotency.tenant_id = ? AND idempotency.user_id = ? AND route = ? AND key = ? AND body_hash = ?
      AND expires_at > ? AND status = 'completed'
"""

_FORGET_CANCEL = "DELETE FROM cancel_requests WHERE message_id = ?"


def claim(owner: tuple[str, str], once: Once, ids: tuple[str, str], now: float) -> Operation[tuple[str, str] | None]:
    """Claim a key for the work with these ids; return None, or the ids of the work that has it.

    Raises:
        Conflict: the key was used for another body.
    """
    key = (*owner, once.route, once.key)
    yield _FORGET_THIS, (*key, now)
    claimed = yield _CLAIM, (*key, once.body_hash, *ids, now, now + KEPT)
    if claimed:
        return None
    rows = yield _CLAIMED, key
    body_hash, *earlier = rows[0]
    if body_hash != once.body_hash:
        raise Conflict("This Idempotency-Key was used for another body")
    return earlier[0], earlier[1]


def begin_turn_once(turn: NewTurn, once: Once) -> Operation[Begun]:
    """Begin a turn under its key; or again, if it did not come to its end; or return the answer that it gave.

    Raises:
        Conflict: it is running, or the key was used for another body.
    """
    earlier = yield from claim((turn.tenant, turn.user), once, (turn.message_id, turn.user_message_id), turn.now)
    if earlier is None:
        return (yield from begin_turn(turn))
    message_id, user_message_id = earlier
    rows = yield _MESSAGE, (message_id,)
    status, session_id, run, *answer = rows[0]
    if status == "completed":
        return Begun(message_id, user_message_id, session_id, run, _answered(*answer))
    again = yield _BEGIN_AGAIN, (turn.model, turn.instance_id, turn.now, message_id, run)
    if not again:
        raise Conflict("A request with this Idempotency-Key is running")
    yield _FORGET_CANCEL, (message_id,)  # whoever asked for the earlier run to stop did not mean this one
    return Begun(message_id, user_message_id, session_id, again[0][0])


def completed_turn(tenant: str, user: str, once: Once, now: float) -> Operation[Begun | None]:
    """Return the turn that was completed under this key, for this body; None for none. Nothing is begun."""
    rows = yield _COMPLETED, (tenant, user, once.route, once.key, once.body_hash, now)
    if not rows:
        return None
    message_id, user_message_id, session_id, run, *answer = rows[0]
    return Begun(message_id, user_message_id, session_id, run, _answered(*answer))


def forget_expired(now: float) -> Operation[None]:
    """Forget the keys whose day is over."""
    yield _FORGET_EXPIRED, (now,)


def _answered(
    text: str, model: str, finish_reason: str, prompt_tokens: int, generated_tokens: int, citations: str, events: str
) -> Answered:
    cited: list[Any] = json.loads(citations)
    return Answered(text, model, finish_reason, prompt_tokens, generated_tokens, tuple(cited), events)
