"""Every statement of the state database, once: the drivers differ in how they run them, never in what they say.

An operation is a generator: it yields a statement with its values, is sent the rows, and returns its result. So the
same lines run in a thread on SQLite, inline in virtual time, and over the network on PostgreSQL. One operation is one
transaction. Values are marked `?`, and the SQL is what both databases understand.
"""

from __future__ import annotations

import json
from collections.abc import Generator, Iterable, Sequence
from typing import Any, TypeVar

from service.ports import Begun, Ending, Message, NewTurn
from service.store.values import Instance, MessageOwner, Process, StoredKey

T = TypeVar("T")

Statement = tuple[str, Sequence[Any]]
Rows = Sequence[Sequence[Any]]
Operation = Generator[Statement, Rows, T]

# --- turns --------------------------------------------------------------------------------------------------------

_HISTORY = """
SELECT message_id, role, status, text, created_at FROM messages
WHERE tenant_id = ? AND user_id = ? AND session_id = ? ORDER BY seq DESC LIMIT ?
"""

_NEW_SESSION = """
INSERT INTO sessions (tenant_id, user_id, session_id, created_at) VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING
"""

_NEW_MESSAGES = """
INSERT INTO messages (message_id, role, status, text,
                      tenant_id, user_id, session_id, model, instance_id, created_at, updated_at)
VALUES (?, 'user', 'completed', ?, ?, ?, ?, ?, ?, ?, ?), (?, 'assistant', 'streaming', '', ?, ?, ?, ?, ?, ?, ?)
"""

_END = """
UPDATE messages SET status = ?, text = ?, finish_reason = ?, prompt_tokens = ?, generated_tokens = ?, citations = ?,
                    error_code = ?, events = ?, updated_at = ?
WHERE message_id = ? AND run = ? AND status = 'streaming' RETURNING message_id
"""


def history(tenant: str, user: str, session_id: str, limit: int) -> Operation[tuple[Message, ...]]:
    """Return the last `limit` messages of a session, oldest first; () for none."""
    rows = yield _HISTORY, (tenant, user, session_id, limit)
    return tuple(Message(*row) for row in reversed(rows))


def begin_turn(turn: NewTurn) -> Operation[Begun]:
    """Write the session if it is new, the question as completed and the answer as streaming."""
    session = (turn.tenant, turn.user, turn.session_id)
    both = (*session, turn.model, turn.instance_id, turn.now, turn.now)
    yield _NEW_SESSION, (*session, turn.now)
    yield _NEW_MESSAGES, (turn.user_message_id, turn.question, *both, turn.message_id, *both)
    return Begun(turn.message_id, turn.user_message_id, turn.session_id)


def end_turn(ending: Ending) -> Operation[bool]:
    """Replace `streaming` by how the turn ended; tell whether it was still streaming."""
    values = (
        ending.status,
        ending.text,
        ending.finish_reason,
        ending.prompt_tokens,
        ending.generated_tokens,
        json.dumps(ending.citations),
        ending.error_code,
        ending.events,
        ending.now,
    )
    rows = yield _END, (*values, ending.message_id, ending.run)
    return bool(rows)


# --- cancelling from another connection ---------------------------------------------------------------------------

_OWNER = "SELECT tenant_id, user_id, status, instance_id FROM messages WHERE message_id = ?"

_IS_STREAMING = "SELECT 1 FROM messages WHERE message_id = ? AND status = 'streaming'"

_FORGET_OLD_REQUESTS = """
DELETE FROM cancel_requests WHERE NOT EXISTS (
    SELECT 1 FROM messages WHERE messages.message_id = cancel_requests.message_id AND messages.status = 'streaming')
"""

_NEW_REQUEST = "INSERT INTO cancel_requests (message_id, requested_at) VALUES (?, ?) ON CONFLICT DO NOTHING"

# CROSS JOIN: SQLite is to begin at the requests, which are few, and not at all that is streaming (400 times as long
# beside 10,000 streams, four times a second). PostgreSQL knows how many there are of each.
_REQUESTS = """
SELECT messages.message_id FROM cancel_requests CROSS JOIN messages
WHERE messages.message_id = cancel_requests.message_id AND messages.instance_id = ? AND messages.status = 'streaming'
"""


def message_owner(message_id: str) -> Operation[MessageOwner | None]:
    """Return whose message it is, its status and which instance answers it."""
    rows = yield _OWNER, (message_id,)
    return MessageOwner(*rows[0]) if rows else None


def request_cancel(message_id: str, now: float) -> Operation[bool]:
    """Ask for a running answer to be stopped; tell whether it was running."""
    yield _FORGET_OLD_REQUESTS, ()
    running = yield _IS_STREAMING, (message_id,)
    if running:
        yield _NEW_REQUEST, (message_id, now)
    return bool(running)


def cancel_requests_for(instance_id: str) -> Operation[tuple[str, ...]]:
    """Return which answers that this instance is giving are to be stopped."""
    rows = yield _REQUESTS, (instance_id,)
    return tuple(row[0] for row in rows)


# --- instances ----------------------------------------------------------------------------------------------------

_BEAT = """
INSERT INTO instances (id, host, pid, started, heartbeat_at) VALUES (?, ?, ?, ?, ?)
ON CONFLICT (id) DO UPDATE SET heartbeat_at = excluded.heartbeat_at
"""

_LEAVE = "DELETE FROM instances WHERE id = ?"

_INSTANCES = "SELECT id, host, pid, started, heartbeat_at FROM instances"

_FORGET_DEAD = "DELETE FROM instances WHERE id = ? AND heartbeat_at = ? RETURNING id"

_INTERRUPT = """
UPDATE messages SET status = 'interrupted', updated_at = ? WHERE instance_id = ? AND status = 'streaming'
RETURNING message_id
"""

_INTERRUPT_HOMELESS = """
UPDATE messages SET status = 'interrupted', updated_at = ? WHERE status = 'streaming' AND updated_at < ?
AND NOT EXISTS (SELECT 1 FROM instances WHERE instances.id = messages.instance_id)
RETURNING message_id
"""


def beat(instance_id: str, process: Process, now: float) -> Operation[None]:
    """Say that this instance lives: a new row, or a new time in its old one."""
    yield _BEAT, (instance_id, process.host, process.pid, process.started, now)


def leave(instance_id: str) -> Operation[None]:
    """Forget an instance that ended in order."""
    yield _LEAVE, (instance_id,)


def instances() -> Operation[tuple[Instance, ...]]:
    """Return every instance that did not leave."""
    rows = yield _INSTANCES, ()
    return tuple(Instance(row[0], Process(*row[1:4]), row[4]) for row in rows)


def interrupt(dead: Iterable[Instance], now: float, homeless_before: float) -> Operation[tuple[str, ...]]:
    """Mark what the `dead` were answering as interrupted, and forget them; return the messages' ids.

    An instance whose heart beat since it was read is not dead. A message of an instance without a row is interrupted
    if it began before `homeless_before`: younger ones may belong to one that was given up and is about to come back.
    """
    interrupted: list[str] = []
    for instance in dead:
        still_dead = yield _FORGET_DEAD, (instance.id, instance.heartbeat_at)
        if still_dead:
            rows = yield _INTERRUPT, (now, instance.id)
            interrupted += (row[0] for row in rows)
    rows = yield _INTERRUPT_HOMELESS, (now, homeless_before)
    return (*interrupted, *(row[0] for row in rows))


# --- tenants and keys ---------------------------------------------------------------------------------------------

_TENANTS = "SELECT id FROM tenants ORDER BY id"

_NEW_TENANT = "INSERT INTO tenants (id, created_at) VALUES (?, ?) ON CONFLICT DO NOTHING"

_PUT_KEY = """
INSERT INTO api_keys (id, hash, tenant_id, user_id, roles, expires_at, created_at) VALUES (?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (id) DO UPDATE SET hash = excluded.hash, tenant_id = excluded.tenant_id, user_id = excluded.user_id,
                               roles = excluded.roles, expires_at = excluded.expires_at, revoked_at = NULL
"""

_REVOKE = "UPDATE api_keys SET revoked_at = ? WHERE id = ? AND revoked_at IS NULL RETURNING id"

_VALID_KEYS = """
SELECT id, hash, tenant_id, user_id, roles, expires_at FROM api_keys
WHERE id IN (?, ?) AND revoked_at IS NULL AND (expires_at IS NULL OR expires_at > ?)
"""


def tenants() -> Operation[tuple[str, ...]]:
    """Return the ids of all tenants, in order."""
    rows = yield _TENANTS, ()
    return tuple(row[0] for row in rows)


def put_key(key: StoredKey, now: float) -> Operation[None]:
    """Write a key and its tenant, if new; a key with the same id is replaced."""
    yield _NEW_TENANT, (key.tenant, now)
    roles = " ".join(sorted(key.roles))
    yield _PUT_KEY, (key.id, key.hash, key.tenant, key.user, roles, key.expires_at, now)


def revoke_key(key_id: str, now: float) -> Operation[bool]:
    """Revoke a key; tell whether there was one to revoke."""
    rows = yield _REVOKE, (now, key_id)
    return bool(rows)


def valid_keys(ids: tuple[str, str], now: float) -> Operation[tuple[StoredKey, ...]]:
    """Return the keys with these ids that are neither revoked nor expired."""
    rows = yield _VALID_KEYS, (*ids, now)
    return tuple(
        StoredKey(key_id, digest, tenant, user, frozenset(roles.split()), expires_at)
        for key_id, digest, tenant, user, roles, expires_at in rows
    )
