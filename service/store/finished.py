"""A finished turn, read back whole for those who judge it afterwards. Called by ledger.py alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

from service.work import FinishedTurn

if TYPE_CHECKING:
    from service.store.statements import Operation

# Both messages of a turn are written by one statement, with one time; between their numbers another turn's may stand.
_ANSWER = """
SELECT answers.text, answers.events, (
    SELECT asked.text FROM messages AS asked
    WHERE asked.tenant_id = answers.tenant_id AND asked.user_id = answers.user_id
    AND asked.session_id = answers.session_id AND asked.role = 'user' AND asked.seq < answers.seq
    AND asked.created_at = answers.created_at
    ORDER BY asked.seq DESC LIMIT 1)
FROM messages AS answers
WHERE answers.message_id = ? AND answers.tenant_id = ? AND answers.user_id = ?
AND answers.role = 'assistant' AND answers.status = 'completed'
"""

_RESULTS = """
SELECT result FROM tool_calls
WHERE message_id = ? AND tenant_id = ? AND user_id = ? AND state = 'completed' AND result IS NOT NULL
ORDER BY created_at, call_id
"""


def finished_turn(tenant: str, user: str, message_id: str) -> Operation[FinishedTurn | None]:
    """Return a completed answer of this user with what it was made of; None for none."""
    owned = (message_id, tenant, user)
    rows = yield _ANSWER, owned
    if not rows:
        return None
    answer, events, question = rows[0]
    results = yield _RESULTS, owned
    return FinishedTurn(question or "", answer, events, tuple(row[0] for row in results))
