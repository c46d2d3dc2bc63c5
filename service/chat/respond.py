"""The loop between the model and its tools, within one turn: bounded in rounds, in calls and in time.

Called by flow.py once the evidence is there. Nothing is called on what a model has not said to its end.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING

from service.chat.call import new_call
from service.chat.plan import MODEL_STREAM
from service.chat.steps.tool_call import call_tool
from service.chat.structured import generate_valid, send_whole
from service.ports import ChatMessage
from service.runtime.phase import phase
from service.runtime.shelter import together

if TYPE_CHECKING:
    from collections.abc import Sequence

    from service.chat.attempts import Reply
    from service.chat.call import Seen
    from service.chat.parts import Chosen, Parts
    from service.chat.turn import Ask, Turn
    from service.ports import ModelRequest, Principal, Scope, ToolCall

CALLS_IN_A_ROUND = 8
TOO_MANY = '{"status": "denied", "error": "Too many calls at once; ask for this one again."}'


async def respond(
    turn: Turn, use: Parts, who: Principal, scope: Scope, chosen: Chosen, ask: Ask, request: ModelRequest
) -> Reply:
    """Let the model answer, calling the tools that it asks for; return the whole of what it said.

    The rounds share one generation budget, in which the time of the tools does not count. In the last round no tool is
    on offer, so that the model must answer. A client that brings a prompt of its own brings its own tools as well, and
    calls them itself.
    """
    own = ask.messages is None
    rounds = use.toolbox.rounds if own else 0
    tools = use.toolbox.offered(scope) if own and chosen.calls_tools else ()
    left = chosen.budgets.get("generation", turn.budgets[MODEL_STREAM.name])
    seen: Seen = Counter()
    while True:
        is_last = request.round >= rounds
        if own:
            request = replace(request, tools=() if is_last else tools)
        with phase(turn, MODEL_STREAM, budget=left) as step:
            reply = await generate_valid(turn, step, chosen, request, who.tenant, use.schemas, last=is_last)
        left = step.unspent
        if is_last or not reply.tool_calls or reply.finish_reason in ("length", "content_filter"):
            break
        results = await _call(turn, use, who, scope, reply.tool_calls, seen)
        said = ChatMessage("assistant", reply.text, tuple(reply.tool_calls))
        request = replace(request, messages=(*request.messages, said, *results), round=request.round + 1)
    if request.response_schema is not None:
        await send_whole(turn, reply)
    if own:
        reply.tool_calls = []
    reply.text = "".join(turn.text)
    return reply


async def _call(
    turn: Turn, use: Parts, who: Principal, scope: Scope, asked: Sequence[ToolCall], seen: Seen
) -> Sequence[ChatMessage]:
    """Make the calls of one round: together if none of them changes anything or waits for a human, else in order."""
    calls = [new_call(turn, use, who, scope, one, seen) for one in asked[:CALLS_IN_A_ROUND]]
    surplus = [ChatMessage("tool", TOO_MANY, tool_call_id=one.id) for one in asked[CALLS_IN_A_ROUND:]]
    if all(call.may_run_beside_others for call in calls):
        return [*await together(*map(call_tool, calls)), *surplus]
    return [*[await call_tool(call) for call in calls], *surplus]
