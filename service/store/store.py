"""The state database as the service sees it: what it remembers of turns, keys and instances, over any driver.

Called by the flow through `ports.Store`, by the API for sessions, cancelling and keys, and by the composition root's
heartbeat. Jobs are kept by `jobs`, beside it.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING

from service.ports import Principal
from service.store import idempotency, keys, reviews, statements, tool_calls
from service.store.access import Access
from service.store.ledger import Ledger
from service.store.process import is_running
from service.store.values import Instance, MessageOwner, Process, Review

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from service.calls import CallState, NewCall, StoredCall
    from service.ports import Begun, Ending, Message, NewTurn, Once
    from service.runtime.world import World
    from service.store.driver import Driver
    from service.store.tool_calls import Verdict
    from telemetry.observe import Observer

BEAT_EVERY = 2.0  # seconds between two heartbeats
EXPIRED_AFTER = 10.0  # seconds without a heartbeat, after which an instance counts as dead
MAX_MESSAGES = 1_000  # of one session in one answer, the newest
MAX_PENDING = 200  # calls in one answer, the oldest


class StateStore:
    """Implements `ports.Store`. Every method raises PersistFailed when the database cannot answer."""

    def __init__(self, driver: Driver, world: World, observer: Observer, process: Process | None = None) -> None:
        """Speak through `driver`.

        Args:
            driver: owned from here on: `close` closes it.
            world: for the wall clock.
            observer: is told of failures.
            process: who this is among the processes of the database; None: only its heartbeat tells.
        """
        self._access = Access(driver, observer)
        self._world = world
        self._process = process or Process()
        self.jobs = Ledger(self._access)

    async def history(self, tenant: str, user: str, session_id: str, limit: int) -> Sequence[Message]:
        """Return the last `limit` messages of the caller's session, oldest first; () for a new one."""
        return await self._access.read(statements.history(tenant, user, session_id, limit))

    async def begin_turn(self, turn: NewTurn, on_commit: Callable[[Begun], object] | None = None) -> Begun:
        """Write the session if it is new and both messages, in one transaction.

        With a key that was used before: begin that turn again under its own ids, or return the answer that it gave.

        Raises:
            Conflict: it is running, or the key was used for another body.
        """
        once = turn.once
        begin = idempotency.begin_turn_once(turn, once) if once else statements.begin_turn(turn)
        return await self._access.write(begin, on_commit)

    async def completed_turn(self, tenant: str, user: str, once: Once) -> Begun | None:
        """Return the turn that was completed under this key, for this body; None for none. Nothing is begun."""
        return await self._access.read(idempotency.completed_turn(tenant, user, once, self._world.now()))

    async def forget_expired_keys(self) -> None:
        """Forget the Idempotency-Keys whose day is over."""
        await self._access.write(idempotency.forget_expired(self._world.now()))

    async def end_turn(self, ending: Ending, on_commit: Callable[[], object] | None = None) -> bool:
        """Replace `streaming` by the ending's status; return False if it was not streaming any more.

        `on_commit` is called in the event loop, at most once, as soon as the replacement is certain.
        """

        def committed(replaced: bool) -> None:  # noqa: FBT001 -- it is the operation's result
            if replaced and on_commit is not None:
                on_commit()

        return await self._access.write(statements.end_turn(ending), committed)

    async def messages(self, tenant: str, user: str, session_id: str) -> Sequence[Message] | None:
        """Return the caller's session, oldest first, at most its newest 1,000; None if the caller has none such."""
        found = await self._access.read(statements.history(tenant, user, session_id, MAX_MESSAGES))
        if not found:
            return None
        answers = tuple(message.message_id for message in found if message.role == "assistant")
        calls = await self._access.read(tool_calls.calls_of(tenant, user, answers))
        return tuple(replace(message, tool_calls=calls.get(message.message_id, ())) for message in found)

    async def message_owner(self, message_id: str) -> MessageOwner | None:
        """Return whose message it is and how it stands; None if there is none. Not for a client's eyes unchecked."""
        return await self._access.read(statements.message_owner(message_id))

    async def request_cancel(self, message_id: str) -> bool:
        """Ask whichever instance gives this answer to stop; return False if nobody is giving it."""
        return await self._access.write(statements.request_cancel(message_id, self._world.now()))

    async def cancel_requests_for(self, instance_id: str) -> Sequence[str]:
        """Return the ids of the answers that this instance gives and is asked to stop."""
        return await self._access.read(statements.cancel_requests_for(instance_id))

    # --- tool calls ---------------------------------------------------------------------------------------------------

    async def claim_call(self, call: NewCall) -> StoredCall | None:
        """Write the call, or begin one again that certainly did not happen; else return the earlier one as it is."""
        return await self._access.write(tool_calls.claim(call))

    async def call(self, call_id: str) -> StoredCall | None:
        """Return a call as it stands; None if there is none."""
        return await self._access.read(tool_calls.call(call_id))

    async def advance_call(
        self, call_id: str, before: Sequence[CallState], state: CallState, *, result: str | None = None, code: str = ""
    ) -> bool:
        """Move a call from one of the states `before` to `state`; return False if it was in none of them."""
        return await self._access.write(tool_calls.advance(call_id, before, state, result, code, self._world.now()))

    async def pending_calls(self, tenant: str) -> Sequence[StoredCall]:
        """Return what waits for an approval in a tenant, at most its oldest 200."""
        return await self._access.read(tool_calls.pending(tenant, self._world.now(), MAX_PENDING))

    async def decide_call(self, call: StoredCall, *, approve: bool, who: str, digest: str = "") -> Verdict:
        """Decide on a call that waits, as the user `who`; `digest`, unless empty, must be that of its arguments."""
        state: CallState = "approved" if approve else "denied"
        code = "" if approve else "forbidden"
        now = self._world.now()
        return await self._access.write(tool_calls.decide(call.call_id, call.tenant, state, code, who, digest, now))

    async def decided_calls(self, call_ids: Sequence[str]) -> Sequence[str]:
        """Return which of these calls wait for an approval no more."""
        return await self._access.read(tool_calls.decided(call_ids))

    async def settle_orphaned_calls(self) -> Sequence[tuple[str, str]]:
        """Settle the calls that nobody works on any more; return id and tool of those that are now indeterminate."""
        return await self._access.write(tool_calls.settle_orphans(self._world.now()))

    async def open_review(self, tenant: str, key: str, case_id: str, reasons: Sequence[str], who: str) -> Review | None:
        """Open an escalation review, or return the one that `key` opened; None if another is open on the case."""
        review = Review(self._world.new_id("review"), case_id, tuple(reasons), who, self._world.now())
        return await self._access.write(reviews.open_review(tenant, key, review))

    async def review(self, tenant: str, key: str) -> Review | None:
        """Return the escalation review that `key` opened; None for none."""
        return await self._access.read(reviews.review_of(tenant, key))

    # --- processes and keys -------------------------------------------------------------------------------------------

    async def beat(self, instance_id: str) -> None:
        """Say that this process serves as `instance_id`: at its start, and every `BEAT_EVERY` seconds."""
        await self._access.write(statements.beat(instance_id, self._process, self._world.now()))

    async def leave(self, instance_id: str) -> None:
        """Take this instance off the list, at the end of an orderly shutdown."""
        await self._access.write(statements.leave(instance_id))

    async def interrupt_orphans(self, now: float) -> Sequence[str]:
        """Mark as interrupted what dead instances were answering, and return those messages' ids.

        Dead is whose heartbeat is older than `EXPIRED_AFTER` at `now` (Unix seconds), and at once whose process on
        this host is gone. The process that asks is alive, however late its own heartbeat.
        """
        others = [one for one in await self._access.read(statements.instances()) if not self._is_this(one)]
        gone = await self._gone(others)
        dead = [one for one in others if one.heartbeat_at < now - EXPIRED_AFTER or one.id in gone]
        return await self._access.write(statements.interrupt(dead, now, now - EXPIRED_AFTER))

    async def create_key(self, tenant: str, user: str, roles: Iterable[str], expires_at: float | None = None) -> str:
        """Make a key, and its tenant if new, and return its text: it is shown once and stored nowhere."""
        text, key = keys.new_key(tenant, user, roles, expires_at)
        await self._access.write(statements.put_key(key, self._world.now()))
        return text

    async def put_demo_key(self, key: str) -> None:
        """Let `key`, of any form, be the key of user `demo` of tenant `demo`, instead of any earlier one."""
        await self._access.write(statements.put_key(keys.demo_key(key), self._world.now()))

    async def revoke_key(self, key_id: str) -> bool:
        """Revoke a key by its id (`demo` for the demo key); return False if there is none that is not revoked."""
        return await self._access.write(statements.revoke_key(key_id, self._world.now()))

    async def authenticate(self, key: str) -> Principal | None:
        """Return whose key this is; None if it is unknown, revoked or expired."""
        stored = await self._access.read(statements.valid_keys(keys.candidate_ids(key), self._world.now()))
        found = keys.matching(key, stored)
        return Principal(found.tenant, found.user, found.roles, found.id) if found else None

    async def tenants(self) -> Sequence[str]:
        """Return the ids of all tenants, in order."""
        return await self._access.read(statements.tenants())

    async def close(self) -> None:
        """Finish what waits and free the database, within a few seconds."""
        await self._access.close()

    def _is_this(self, instance: Instance) -> bool:
        return instance.process == self._process != Process()

    async def _gone(self, instances: list[Instance]) -> set[str]:
        """Return the ids of those whose process ran on this host and runs no more."""
        local = [one for one in instances if one.process.host == self._process.host != ""]
        if not local:
            return set()
        return await asyncio.to_thread(lambda: {one.id for one in local if not is_running(one.process)})
