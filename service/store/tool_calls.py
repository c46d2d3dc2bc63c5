"""Statements on tool calls: each call is a row that moves from state to state by compare-and-set.

    denied | awaiting_approval → approved | running → completed | failed | timed_out | indeterminate

A call is claimed by inserting its key. What certainly did not happen (denied, failed, timed out) may be claimed again
by a turn that is tried again; what is completed is answered from its row; what is indeterminate stays so until a person
or the tool itself says what became of it. Called by store.py alone, as `statements` is.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, Literal

from service.calls import CallState, NewCall, StoredCall
from service.store.statements import Operation

OPEN: tuple[CallState, ...] = ("awaiting_approval", "approved", "running")
AGAIN: tuple[CallState, ...] = ("denied", "failed", "timed_out")
Verdict = Literal["decided", "too_late", "differs"]

_COLUMNS = (
    "call_id, message_id, tenant_id, user_id, tool, arguments, arguments_digest, state, result, error_code, "
    "created_at, expires_at"
)

_CLAIM = """
INSERT INTO tool_calls (call_id, idempotency_key, message_id, tenant_id, user_id, tool, arguments, arguments_digest,
                        state, error_code, instance_id, created_at, updated_at, expires_at)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (tenant_id, user_id, idempotency_key) DO NOTHING RETURNING call_id
"""

_CLAIMED = f"SELECT {_COLUMNS} FROM tool_calls WHERE tenant_id = ? AND user_id = ? AND idempotency_key = ?"  # noqa: S608 -- our columns

_CLAIM_AGAIN = """
UPDATE tool_calls SET state = ?, error_code = ?, result = NULL, decided_by = '', instance_id = ?, updated_at = ?,
                      expires_at = ?
WHERE call_id = ? AND state = ? AND arguments_digest = ? RETURNING call_id
"""

_CALL = f"SELECT {_COLUMNS} FROM tool_calls WHERE call_id = ?"  # noqa: S608

_ADVANCE = """
UPDATE tool_calls SET state = ?, result = ?, error_code = ?, updated_at = ? WHERE call_id = ? AND state IN ({marks})
RETURNING call_id
"""

_PENDING = f"""
SELECT {_COLUMNS} FROM tool_calls WHERE tenant_id = ? AND state = 'awaiting_approval' AND expires_at > ?
ORDER BY created_at LIMIT ?
"""  # noqa: S608

_DECIDE = """
UPDATE tool_calls SET state = ?, error_code = ?, decided_by = ?, updated_at = ?
WHERE call_id = ? AND tenant_id = ? AND state = 'awaiting_approval' AND expires_at > ? RETURNING call_id
"""

_DECIDED = "SELECT call_id FROM tool_calls WHERE call_id IN ({marks}) AND state <> 'awaiting_approval'"

_CALLS_OF = """
SELECT message_id, call_id, tool, arguments, state, error_code, created_at FROM tool_calls
WHERE tenant_id = ? AND user_id = ? AND message_id IN ({marks}) ORDER BY created_at, call_id
"""

# Its turn has ended, or is being tried again elsewhere: whoever worked on it does so no more.
_ORPHANED = """
state = ? AND NOT EXISTS (
    SELECT 1 FROM messages WHERE messages.message_id = tool_calls.message_id AND messages.status = 'streaming'
    AND messages.instance_id = tool_calls.instance_id)
"""

_SETTLE_ORPHANS = f"""
UPDATE tool_calls SET state = ?, error_code = ?, updated_at = ? WHERE {_ORPHANED} RETURNING call_id, tool
"""  # noqa: S608


def claim(call: NewCall) -> Operation[StoredCall | None]:
    """Claim the call's key; return None if it is the caller's now, else what stands under it."""
    owner = (call.tenant, call.user)
    values = (call.call_id, call.key, call.message_id, *owner, call.tool, call.arguments, call.digest)
    claimed = yield (
        _CLAIM,
        (*values, call.state, call.error_code, call.instance_id, call.now, call.now, call.expires_at),
    )
    if claimed:
        return None
    rows = yield _CLAIMED, (*owner, call.key)
    earlier = StoredCall(*rows[0])
    if earlier.state not in AGAIN:
        return earlier
    fresh = (call.state, call.error_code, call.instance_id, call.now, call.expires_at)
    claimed = yield _CLAIM_AGAIN, (*fresh, earlier.call_id, earlier.state, call.digest)
    return None if claimed else earlier


def call(call_id: str) -> Operation[StoredCall | None]:
    """Return a call as it stands."""
    rows = yield _CALL, (call_id,)
    return StoredCall(*rows[0]) if rows else None


def advance(
    call_id: str, before: Sequence[CallState], state: CallState, result: str | None, code: str, now: float
) -> Operation[bool]:
    """Move a call from one of the states `before` to `state`; tell whether it was in one of them."""
    rows = yield _ADVANCE.format(marks=_marks(before)), (state, result, code, now, call_id, *before)
    return bool(rows)


def pending(tenant: str, now: float, limit: int) -> Operation[tuple[StoredCall, ...]]:
    """Return what waits for an approval in a tenant and has not expired, oldest first."""
    rows = yield _PENDING, (tenant, now, limit)
    return tuple(StoredCall(*row) for row in rows)


def decide(
    call_id: str, tenant: str, state: CallState, code: str, who: str, digest: str, now: float
) -> Operation[Verdict]:
    """Decide on a call of `tenant` that waits; `digest`, unless empty, must be that of its arguments."""
    rows = yield _CALL, (call_id,)
    if digest and (not rows or StoredCall(*rows[0]).digest != digest):
        return "differs"
    decided = yield _DECIDE, (state, code, who, now, call_id, tenant, now)
    return "decided" if decided else "too_late"


def decided(call_ids: Sequence[str]) -> Operation[tuple[str, ...]]:
    """Return which of these calls wait for an approval no more."""
    rows = yield _DECIDED.format(marks=_marks(call_ids)), tuple(call_ids)
    return tuple(row[0] for row in rows)


def calls_of(tenant: str, user: str, message_ids: Sequence[str]) -> Operation[dict[str, tuple[dict[str, Any], ...]]]:
    """Return the calls of each of these messages, oldest first, as a transcript shows them."""
    rows = yield _CALLS_OF.format(marks=_marks(message_ids)), (tenant, user, *message_ids)
    found: dict[str, tuple[dict[str, Any], ...]] = {}
    for message_id, call_id, tool, arguments, state, error_code, created_at in rows:
        shown = {
            "call_id": call_id,
            "tool": tool,
            "arguments": json.loads(arguments),
            "status": state,
            "error_code": error_code or None,
            "created_at": created_at,
        }
        found[message_id] = (*found.get(message_id, ()), shown)
    return found


def settle_orphans(now: float) -> Operation[tuple[tuple[str, str], ...]]:
    """Settle the calls that nobody works on any more; return id and tool of those of which nobody knows what they did.

    Whatever was running may have happened. What only waited, or was approved and not begun, certainly has not.
    """
    unknown = yield _SETTLE_ORPHANS, ("indeterminate", "internal", now, "running")
    for waiting in ("awaiting_approval", "approved"):
        yield _SETTLE_ORPHANS, ("denied", "cancelled", now, waiting)
    return tuple((row[0], row[1]) for row in unknown)


def _marks(values: Sequence[Any]) -> str:
    return ", ".join("?" * len(values))
