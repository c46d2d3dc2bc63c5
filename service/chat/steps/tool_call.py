"""tool.call: one call of a tool, from what a model wrote to what it is told. A model's mistake is never an exception.

A call is a row of the state database that moves from state to state, and each event is sent once its state is
committed. What may be called is the policy's to say: nothing that a document holds or a model writes changes it.
"""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING

from service.calls import NewCall
from service.chat.events import ToolCallCompleted, ToolCallRequested, ToolCallStarted
from service.chat.execution import OPEN, advance, execute, find_out, move
from service.chat.plan import TOOL_CALL
from service.errors import Code, Conflict, InvalidAnswer, Overloaded, PhaseTimeout, RateLimited
from service.ports import ChatMessage
from service.runtime.admission import place
from service.runtime.phase import phase
from service.runtime.shelter import sheltered
from telemetry import catalogue as rows
from telemetry.catalogue import Attr

if TYPE_CHECKING:
    from service.calls import CallState, StoredCall, Tool
    from service.chat.call import Call
    from service.chat.toolbox import Equipped

LOOK_AGAIN = 0.1  # seconds between two looks at a call that another turn works on


async def call_tool(call: Call) -> ChatMessage:
    """Take `call` through its states and return what the model is told.

    Raises:
        PhaseTimeout: what was left of the whole request is used up; a tool's own budget is told to the model.
        PersistFailed: the state database did not take a state: nothing is done that it does not know of.
        Conflict: another call stands under this key.
    """
    try:
        with phase(call.turn, TOOL_CALL, budget=call.equipped.timeout if call.equipped else None) as step:
            _describe(step, call)
            await _go_through(call, step)
            _judge(step, call)
    except PhaseTimeout as timeout:
        await sheltered(_give_up(call, "timed_out", Code.TIMEOUT, "It took too long."))
        if timeout.limit != "phase":
            _count(call)
            raise
    except (Overloaded, RateLimited):
        await sheltered(_give_up(call, "failed", Code.OVERLOADED, "The tool is too busy now; it was not called."))
    except asyncio.CancelledError:
        await sheltered(_give_up(call, "failed" if call.begun else "denied", Code.CANCELLED, "Cancelled."))
        _count(call)
        raise
    _count(call)
    if call.state == "completed" and call.equipped is not None and call.equipped.tool.side_effects:
        call.turn.acted.append(call.asked.name)
    await call.turn.emit(_completed(call))
    return ChatMessage("tool", call.told, tool_call_id=call.asked.id)


async def _go_through(call: Call, step: phase) -> None:
    equipped = call.equipped
    if equipped is None or await _is_refused(call, equipped):
        await _refuse(call, step)
        return
    await _claim(call, equipped)
    await _tell_requested(call, step)
    if call.state == "awaiting_approval":
        await _await_approval(call, step)
    if call.state in ("approved", "running"):
        async with place(call.turn, equipped.gate, call.who.tenant, instead_of=step):
            await _start(call, equipped.tool, step)


# --- may it? ------------------------------------------------------------------------------------------------------


async def _is_refused(call: Call, equipped: Equipped) -> bool:
    """Check the arguments before anything else, then ask the policy; say why not."""
    problem: str | None = "they are no JSON object"
    if call.arguments is not None:
        try:
            problem = await call.use.toolbox.schemas.problem(equipped.tool.spec.parameters, json.dumps(call.arguments))
        except InvalidAnswer:
            problem = "they cannot be checked"
    if problem is not None:
        call.code, call.words = Code.INVALID_REQUEST, f"The arguments are not valid: {problem}"
    elif not _is_permitted(call):
        call.code, call.words = Code.FORBIDDEN, "This call is not permitted."
    return call.code is not None


def _is_permitted(call: Call) -> bool:
    name = call.asked.name
    return name in call.scope.tools and call.use.policy.may_call(call.who, name, call.resource)


async def _refuse(call: Call, step: phase) -> None:
    """Write that it was denied; an earlier call under the same key stays as it is, and is told to nobody."""
    if call.equipped is None:
        call.code, call.words = Code.NOT_FOUND, "There is no such tool."
    await sheltered(_try_claim(call, "denied"))
    call.state = "denied"
    await _tell_requested(call, step)


# --- claimed by its key -------------------------------------------------------------------------------------------


async def _claim(call: Call, equipped: Equipped) -> None:
    """Commit the first state, or meet what stands under the same key: a result, or that nobody knows it."""
    first: CallState = "awaiting_approval" if equipped.approval else "running"
    while (earlier := await sheltered(_try_claim(call, first))) is not None:
        if earlier.digest != call.digest:
            raise Conflict("Another call stands under this call's key")
        if earlier.state not in OPEN:
            await _meet(call, earlier, equipped.tool)
            return
        await asyncio.sleep(LOOK_AGAIN)


async def _try_claim(call: Call, state: CallState) -> StoredCall | None:
    """Claim the key; sheltered, so that whoever is cancelled here knows whether the claim is theirs."""
    use, now = call.use, call.use.world.now()
    earlier = await use.toolbox.calls.claim_call(
        NewCall(
            call_id=call.call_id,
            key=call.key,
            message_id=call.turn.message_id,
            tenant=call.who.tenant,
            user=call.who.user,
            tool=call.name,
            arguments=json.dumps(call.shown),
            digest=call.digest,
            state=state,
            instance_id=use.instance_id,
            now=now,
            error_code=call.code or "",
            expires_at=now + use.toolbox.approval_limit if state == "awaiting_approval" else None,
        )
    )
    if earlier is None:
        call.state, call.ours = state, True
    return earlier


async def _meet(call: Call, earlier: StoredCall, tool: Tool) -> None:
    """Take what an earlier call with this key came to. One that only reads and was left in the middle runs again."""
    if earlier.state == "completed":
        call.state, call.result = "completed", earlier.result
    elif tool.side_effects:
        await find_out(call, tool)
    else:
        call.ours = await advance(call, (earlier.state,), "running")
        call.state = "running"
    if call.state == "completed":
        call.replayed = True
        call.turn.observer.inc(rows.TOOL_REPLAYS_TOTAL, call.label)


# --- a human decides ----------------------------------------------------------------------------------------------


async def _await_approval(call: Call, step: phase) -> None:
    """Wait for the decision while the request's clocks stand still; no place of the model or the tool is held."""
    seen = call.turn.observer
    seen.add(rows.TOOL_APPROVALS_PENDING, 1)
    try:
        with call.turn.standstill(step):
            call.state = await _decision(call)
    finally:
        seen.add(rows.TOOL_APPROVALS_PENDING, -1)
    step.note(Attr.APPROVAL, call.state)
    if call.state == "denied":
        expired = call.code is Code.TIMEOUT
        call.words = "Nobody decided in time; it was not done." if expired else "An approver refused; it was not done."


async def _decision(call: Call) -> CallState:
    """Return `approved` or `denied`: whatever the database says in the end, also if that came at the last moment."""
    box = call.use.toolbox
    with box.approvals.expecting(call.call_id) as decided:
        try:
            async with asyncio.timeout(box.approval_limit):
                while (state := await _state_of(call)) == "awaiting_approval":
                    await decided.wait()
                    decided.clear()
                return state
        except TimeoutError:
            await box.calls.advance_call(call.call_id, ("awaiting_approval",), "denied", code=Code.TIMEOUT)
            return await _state_of(call)


async def _state_of(call: Call) -> CallState:
    stored = await call.use.toolbox.calls.call(call.call_id)
    if stored is None:
        raise Conflict("The call is not known any more")
    call.code = Code(stored.error_code) if stored.error_code else None
    return stored.state


# --- it starts, and how it ends ------------------------------------------------------------------------------------


async def _start(call: Call, tool: Tool, step: phase) -> None:
    """Run the tool, unless that is not permitted any more."""
    if not _is_permitted(call):
        call.words = "This call is not permitted any more."
        await move(call, "denied", Code.FORBIDDEN)
        return
    if call.state == "approved" and not await advance(call, ("approved",), "running"):
        raise Conflict("The call was settled by somebody else")
    call.state = "running"
    await call.turn.emit_in(step, ToolCallStarted(call_id=call.call_id, tool=call.name))
    await execute(call, tool, min(step.unspent, call.turn.left()))


async def _give_up(call: Call, state: CallState, code: Code, words: str) -> None:
    """Leave a call that is still open, because of time, places or the client.

    A side effect that has begun and whose end could not be written may have happened: the sweep will say so.
    """
    if call.state is not None and call.state not in OPEN:
        return
    if call.begun and call.equipped is not None and call.equipped.tool.side_effects:
        call.state, call.code = "indeterminate", Code.INTERNAL
        return
    call.words = words
    if call.ours:
        await move(call, state, code)
    call.state, call.code = state, code


def _describe(step: phase, call: Call) -> None:
    step.note(Attr.GEN_AI_OPERATION, "execute_tool")
    step.note(Attr.GEN_AI_TOOL_NAME, call.label)
    step.note(Attr.GEN_AI_TOOL_CALL_ID, call.call_id)
    step.note(Attr.GEN_AI_TOOL_TYPE, call.equipped.tool.kind if call.equipped is not None else "function")


def _judge(step: phase, call: Call) -> None:
    step.note(Attr.REPLAYED, call.replayed)
    if call.state == "denied":
        step.outcome = "rejected"
    elif call.state != "completed":
        step.outcome = "error"
        step.span.fail(call.code or Code.TOOL_FAILED)


def _count(call: Call) -> None:
    outcome = "cancelled" if call.code is Code.CANCELLED else str(call.state)
    call.turn.observer.inc(rows.TOOL_CALLS_TOTAL, call.label, outcome)


async def _tell_requested(call: Call, step: phase) -> None:
    status = call.state if call.state in ("denied", "awaiting_approval") else "running"
    needs_approval = call.equipped is not None and call.equipped.approval
    event = ToolCallRequested(
        call_id=call.call_id,
        tool=call.name,
        arguments=call.shown,
        authorization="denied" if status == "denied" else "allowed",
        approval="required" if needs_approval else "not_required",
        status=status,
    )
    await call.turn.emit_in(step, event)


def _completed(call: Call) -> ToolCallCompleted:
    assert call.state in ("completed", "failed", "denied", "timed_out", "indeterminate")  # noqa: S101  (types)
    return ToolCallCompleted(
        call_id=call.call_id,
        tool=call.name,
        status=call.state,
        duration_ms=round(call.worked * 1e3),
        replayed=call.replayed,
        error_code=call.code,
    )
