"""A tool runs: its attempts, its result written, and what is known of a side effect whose end nobody saw.

Called by steps/tool_call.py, once a call was permitted, approved where it must be, and claimed by its key.
"""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

from service.calls import ToolUse
from service.errors import Code, ForebayError, ToolFailed, ToolUnavailable
from service.runtime.shelter import sheltered
from telemetry import catalogue as rows

if TYPE_CHECKING:
    from collections.abc import Sequence

    from service.calls import CallState, Tool
    from service.chat.call import Call

ATTEMPTS = 3  # of one call that may be tried again
BACKOFF = 0.1  # seconds: the longest pause before the second attempt; twice as long before the third
LOOKUP_LIMIT = 1.0  # seconds to find out what became of a side effect
LONGEST_RESULT = 32_000  # characters of a result that are kept, and told to the model

OPEN: tuple[CallState, ...] = ("awaiting_approval", "approved", "running")


async def execute(call: Call, tool: Tool, budget: float) -> None:
    """Run `tool` to its end and write what came of it.

    Args:
        call: in state `running`.
        tool: if it has side effects, neither a client that leaves nor a second cancellation stops it: it is awaited.
        budget: seconds for a side effect; who reads only is cancelled by the caller.
    """
    if tool.side_effects:
        await sheltered(_side_effect(call, tool, budget))
    else:
        await _work(call, tool)


async def _side_effect(call: Call, tool: Tool, budget: float) -> None:
    """Run to the end or the budget, whoever leaves meanwhile; but not if the client has left before it began."""
    if call.turn.cause is not None:
        return
    try:
        async with asyncio.timeout(budget):
            await _work(call, tool)
    except TimeoutError:
        await find_out(call, tool)


async def _work(call: Call, tool: Tool) -> None:
    loop, seen = asyncio.get_running_loop(), call.turn.observer
    began, call.begun = loop.time(), True
    try:
        value = await _attempts(call, tool)
    except ToolFailed as failure:
        call.words = f"{failure.detail}. Nothing was done. {failure.said}".rstrip()[:LONGEST_RESULT]
        await move(call, "failed", Code.TOOL_FAILED)
    except Exception as error:  # noqa: BLE001 -- somebody else's code: what it raises goes no further
        if not isinstance(error, ForebayError):
            seen.log(rows.LOG_BUG, exc_info=error)
        if tool.side_effects:
            await find_out(call, tool)
        else:
            call.words = "The tool failed."
            await move(call, "failed", Code.TOOL_FAILED)
    else:
        call.result = _text(value)
        await move(call, "completed")
    finally:
        call.worked = loop.time() - began
        seen.record(rows.TOOL_DURATION_SECONDS, call.worked, call.label)


async def _attempts(call: Call, tool: Tool) -> Any:
    """Call the tool, again if it was not reached and a second time can do no harm."""
    chance = call.use.world.random
    for pause in (BACKOFF * 2**n for n in range(ATTEMPTS - 1)):
        try:
            return await tool.run(_use(call))
        except ToolUnavailable:
            if call.turn.cause is not None or (tool.side_effects and not tool.idempotent):
                raise
            await asyncio.sleep(chance.uniform(0, pause))
    return await tool.run(_use(call))


async def find_out(call: Call, tool: Tool) -> None:
    """Settle a call whose end nobody saw: as the tool says, else as indeterminate, and it is not run again."""
    found = await _look_up(call, tool)
    if found is None:
        call.words = "It is not known whether this was done. It is not tried again; a person must find out."
        call.turn.observer.log(rows.LOG_TOOL_INDETERMINATE, tool=call.label, call_id=call.call_id)
        await move(call, "indeterminate", Code.INTERNAL)
    else:
        call.result = _text(found)
        await move(call, "completed")


async def _look_up(call: Call, tool: Tool) -> Any:
    """Return what the side effect returned, None if the tool does not find it, or not in time."""
    if tool.lookup is None:
        return None
    try:
        async with asyncio.timeout(LOOKUP_LIMIT):
            return await tool.lookup(_use(call))
    except Exception as error:  # noqa: BLE001 -- somebody else's code, and nothing is lost: it stays indeterminate
        call.turn.observer.log(rows.LOG_BUG, exc_info=error)
        return None


def _use(call: Call) -> ToolUse:
    return ToolUse(call.who.tenant, call.who.user, call.arguments or {}, call.key)


def _text(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)[:LONGEST_RESULT].encode("utf-8", "replace").decode()


# --- where it stands ----------------------------------------------------------------------------------------------


async def move(call: Call, state: CallState, code: Code | None = None) -> None:
    """Write the state that ends the call. A result is the truth also where the call counted as indeterminate."""
    call.code = code
    await advance(call, (*OPEN, "indeterminate"), state)
    call.state = state


async def advance(call: Call, before: Sequence[CallState], state: CallState) -> bool:
    """Write `state` over one of those `before`; tell whether it stood in one of them."""
    calls, code = call.use.toolbox.calls, call.code or ""
    return await calls.advance_call(call.call_id, before, state, result=call.result, code=code)
