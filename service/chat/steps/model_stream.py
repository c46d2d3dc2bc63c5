"""model.stream: the producer. Deltas of the model become events, as fast as the reader takes them and no faster."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from service.chat.events import TokenDelta
from service.chat.plan import FIRST_TOKEN, TOKEN_GAP, TOKENS
from service.errors import ProviderFailure
from service.ports import Finish, Text, ToolCall, ToolCallDelta, Usage
from service.runtime.admission import place
from telemetry.catalogue import (
    PROVIDER_FIRST_TOKEN_SECONDS,
    PROVIDER_REQUESTS_TOTAL,
    Attr,
)

if TYPE_CHECKING:
    from service.chat.parts import Chosen
    from service.chat.turn import Turn
    from service.ports import ModelRequest
    from service.runtime.phase import phase
    from telemetry.observe import Span


@dataclass(slots=True)
class Reply:
    """What one call of the model yielded."""

    text: str = ""
    finish_reason: str = ""
    tool_calls: list[ToolCall] = field(default_factory=list)


async def generate(turn: Turn, step: phase, chosen: Chosen, request: ModelRequest, tenant: str) -> Reply:
    """Call the model and send its text as it comes; raise ProviderFailure, or be cancelled by the step's limits.

    Three limits are the step's: the first token, the gap between tokens, the whole. They stand still while the reader
    is slow, and while the model's place is waited for: neither is the model's fault.
    """
    first_token = chosen.budgets.get("first_token", turn.plan.first_token)
    step.note(Attr.FIRST_TOKEN_BUDGET_MS, round(first_token * 1e3))
    step.note(Attr.GAP_BUDGET_MS, round(chosen.budgets.get("token_gap", turn.plan.token_gap) * 1e3))
    step.at(FIRST_TOKEN)
    step.expect(FIRST_TOKEN, first_token)
    async with place(turn, chosen.gate, tenant, instead_of=step, on_wait=turn.warn_waiting):
        return await _attempt(turn, step, chosen, request)


async def _attempt(turn: Turn, step: phase, chosen: Chosen, request: ModelRequest) -> Reply:
    """Call the provider once, with its span and its count."""
    attributes: dict[str, str | int | bool] = {
        Attr.GEN_AI_OPERATION: "chat",
        Attr.GEN_AI_PROVIDER: chosen.provider,
        Attr.GEN_AI_REQUEST_MODEL: chosen.label,
        Attr.GEN_AI_REQUEST_STREAM: True,
        Attr.ATTEMPT: request.attempt,
    }
    with turn.observer.span(f"chat {chosen.label}", kind="client", attributes=attributes) as span:
        outcome = "malformed"  # of whatever nobody foresaw
        try:
            reply = await _read(turn, step, chosen, request, span)
            outcome = "ok"
        except ProviderFailure as failure:
            outcome = failure.kind
            _note_failure(span, failure)
            raise
        except asyncio.CancelledError:
            outcome = _cut_short(turn, span)
            raise
        finally:
            turn.observer.inc(PROVIDER_REQUESTS_TOTAL, chosen.provider, outcome)
    return reply


async def _read(turn: Turn, step: phase, chosen: Chosen, request: ModelRequest, span: Span) -> Reply:
    """Read one attempt to its end."""
    loop = asyncio.get_running_loop()
    gap = chosen.budgets.get("token_gap", turn.plan.token_gap)
    sent = last = loop.time()
    reply, calls, text = Reply(), dict[int, ToolCallDelta](), turn.text
    start = len(text)
    async with aclosing(chosen.model.stream(request)) as deltas:
        async for delta in deltas:
            now = loop.time()
            if type(delta) is Text:
                if turn.tokens.received == 0:
                    step.at(TOKENS)
                    turn.observer.record(PROVIDER_FIRST_TOKEN_SECONDS, now - sent, chosen.provider, chosen.label)
                elif now - last > turn.max_gap:
                    turn.max_gap = now - last
                turn.tokens.received += 1
                if turn.cause is not None:
                    turn.tokens.wasted += 1
                text.append(delta.text)
                await turn.emit_in(step, TokenDelta(text=delta.text))
                step.expect(TOKEN_GAP, gap)
                last = loop.time()
            else:
                _gather(turn, reply, calls, delta)
    if not reply.finish_reason:
        raise ProviderFailure("malformed")
    reply.text = "".join(text[start:])
    reply.tool_calls = [ToolCall(call.id, call.name, call.arguments) for _, call in sorted(calls.items())]
    _note_reply(turn, span, reply)
    return reply


def _gather(turn: Turn, reply: Reply, calls: dict[int, ToolCallDelta], delta: object) -> None:
    """Take in a delta that is not text."""
    match delta:
        case Usage():
            turn.tokens.prompt += delta.prompt_tokens
            turn.tokens.generated += delta.generated_tokens
        case Finish():
            reply.finish_reason = delta.reason
        case ToolCallDelta():
            before = calls.get(delta.index, ToolCallDelta(delta.index))
            calls[delta.index] = ToolCallDelta(
                delta.index, delta.id or before.id, delta.name or before.name, before.arguments + delta.arguments
            )


def _cut_short(turn: Turn, span: Span) -> str:
    """Say why an attempt was ended by us: the turn was stopped, or the provider was too slow for a budget."""
    if turn.cause is not None:
        span.set(Attr.OUTCOME, "cancelled")
        return "cancelled"
    span.fail("timeout")
    return "timeout"


def _note_reply(turn: Turn, span: Span, reply: Reply) -> None:
    if not turn.tokens.generated:
        turn.tokens.generated = turn.tokens.received  # the provider counted nothing: one delta, one token
    span.set(Attr.GEN_AI_FINISH_REASONS, (reply.finish_reason,))
    span.set(Attr.GEN_AI_INPUT_TOKENS, turn.tokens.prompt)
    span.set(Attr.GEN_AI_OUTPUT_TOKENS, turn.tokens.generated)


def _note_failure(span: Span, failure: ProviderFailure) -> None:
    """Put on the span what may be known of a failure: its kind, status, code and request id, never its words."""
    span.fail(failure.kind)
    if failure.provider_status:
        span.set(Attr.PROVIDER_STATUS, failure.provider_status)
    if failure.provider_code:
        span.set(Attr.PROVIDER_ERROR_CODE, failure.provider_code)
    if failure.request_id:
        span.set(Attr.PROVIDER_REQUEST_ID, failure.request_id)
