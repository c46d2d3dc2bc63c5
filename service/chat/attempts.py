"""One attempt to have a model answer: its span, its counts, its deltas, and what it says of the provider.

steps/model_stream.py decides who is asked and how often; here is what asking once means.
"""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from math import inf
from typing import TYPE_CHECKING, Any

from service.chat.plan import FIRST_TOKEN, TOKEN_GAP, TOKENS
from service.chat.turn import Tokens
from service.errors import ProviderFailure, ProviderUnavailable
from service.ports import Finish, Text, ToolCall, ToolCallDelta, Usage
from service.runtime.alarm import Alarm
from telemetry.catalogue import LOG_PROVIDER_FAILED, PROVIDER_FIRST_TOKEN_SECONDS, PROVIDER_REQUESTS_TOTAL, Attr

if TYPE_CHECKING:
    from collections.abc import Sequence

    from service.chat.parts import Chosen
    from service.chat.turn import Turn
    from service.ports import Deltas, ModelRequest
    from service.runtime.circuit import Attempt
    from service.runtime.gate import Place
    from service.runtime.phase import phase
    from telemetry.observe import Span


@dataclass(slots=True)
class Reply:
    """What one call of the model yielded, at its `attempt`."""

    text: str = ""
    finish_reason: str = ""
    attempt: int = 1
    tool_calls: list[ToolCall] = field(default_factory=list)


@dataclass(slots=True)
class ModelCall:
    """One call of the model, whoever answers it in the end. `attempts` were made; `begun`: one of them was answered."""

    turn: Turn
    step: phase
    request: ModelRequest
    tenant: str
    attempts: int = 0
    begun: bool = False


@dataclass(frozen=True, slots=True)
class Verdict:
    """What an attempt says.

    Attributes:
        outcome: of `provider_requests_total`.
        failed: whether the provider failed as one that is ill; None if it says nothing about that.
        dropped: whether the provider had more to do than it could.
    """

    outcome: str
    failed: bool | None = None
    dropped: bool = False


WELL, STOPPED, UNFORESEEN = Verdict("ok", failed=False), Verdict("cancelled"), Verdict("malformed")


async def attempt(call: ModelCall, chosen: Chosen, place: Place, reserve: float) -> Reply:
    """Ask `chosen` once, holding `place`.

    Args:
        call: what is asked.
        chosen: who.
        place: of the model's gate; it is given back with what was learnt.
        reserve: seconds of the first token's budget that are kept for somebody else.

    Raises:
        ProviderUnavailable: the circuit is open: nobody was asked.
        ProviderFailure: it failed, or used up all but the reserve before its first token.
    """
    turn, loop = call.turn, asyncio.get_running_loop()
    leave = chosen.circuit.attempt(loop.time())
    if leave is None:
        raise ProviderUnavailable(retry_after=chosen.circuit.rest(loop.time()))
    request = call.request
    if call.attempts:
        request = replace(request, attempt=request.attempt + call.attempts)
    call.attempts += 1
    verdict = UNFORESEEN
    with turn.observer.span(f"chat {chosen.label}", kind="client", attributes=_asked(chosen, request)) as span:
        try:
            reply = await _in_time(call, _Reading(call, chosen, request, span, place, leave), reserve)
            verdict = WELL
        except ProviderFailure as failure:
            verdict = _of_failure(failure)
            _tell(turn, span, chosen, request, failure)
            raise
        except asyncio.CancelledError:
            verdict = _of_cancellation(call.step)
            if verdict is STOPPED:
                span.set(Attr.OUTCOME, verdict.outcome)
            else:
                span.fail(verdict.outcome)
            raise
        finally:
            turn.observer.inc(PROVIDER_REQUESTS_TOTAL, chosen.provider, verdict.outcome)
            place.release(dropped=verdict.dropped)
            leave.end(loop.time(), failed=verdict.failed)
    return reply


async def _in_time(call: ModelCall, reading: _Reading, reserve: float) -> Reply:
    """Read the stream; what is kept for somebody else limits the wait for the first delta."""
    until = asyncio.get_running_loop().time() + call.step.left() - reserve if reserve else inf
    with Alarm(until) as alarm:
        return await reading.read(alarm)
    raise ProviderFailure("timeout", retry_safe=True)


@dataclass(slots=True)
class _Reading:
    """An attempt's stream, while it is read."""

    call: ModelCall
    chosen: Chosen
    request: ModelRequest
    span: Span
    place: Place
    leave: Attempt
    used: Tokens = field(default_factory=Tokens)
    reply: Reply = field(default_factory=Reply)
    calls: dict[int, ToolCallDelta] = field(default_factory=dict)

    async def read(self, alarm: Alarm) -> Reply:
        """Read to the end, sending text as it comes; `alarm` is off from the first delta on."""
        try:
            await self._read(alarm)
        finally:
            if not self.used.generated:
                self.used.generated = self.used.received  # the provider counted nothing: one delta, one token
            self.call.turn.spend(self.chosen.label, self.used)
        reply = self.reply
        if not reply.finish_reason:
            raise ProviderFailure("malformed")
        reply.tool_calls = [ToolCall(one.id, one.name, one.arguments) for _, one in sorted(self.calls.items())]
        self.span.set(Attr.GEN_AI_FINISH_REASONS, (reply.finish_reason,))
        self.span.set(Attr.GEN_AI_INPUT_TOKENS, self.used.prompt)
        self.span.set(Attr.GEN_AI_OUTPUT_TOKENS, self.used.generated)
        return reply

    async def _read(self, alarm: Alarm) -> None:
        turn, step = self.call.turn, self.call.step
        gap = self.chosen.budgets.get("token_gap", turn.plan.token_gap)
        now = asyncio.get_running_loop().time
        buffered = self.request.response_schema is not None  # sent once it is valid
        text, last = [] if buffered else turn.text, now()
        start = len(text)
        async with aclosing(self.chosen.model.stream(self.request)) as reads:
            async for deltas in reads:
                at = now()
                if not self.call.begun:
                    self._begin(alarm, at - last)
                elif at - last > turn.max_gap:
                    turn.max_gap = at - last
                step.expect(TOKEN_GAP, gap)
                tokens = [delta for delta in deltas if type(delta) is Text]
                if len(tokens) < len(deltas):
                    self._gather(deltas)
                if buffered or turn.outbox.put_all(tokens):
                    self._count(tokens, text)
                else:
                    await self._say_slowly(tokens, text)
                    at = now()
                    step.expect(TOKEN_GAP, gap)
                last = at
        self.reply.text = "".join(text[start:])
        self.reply.attempt = self.request.attempt

    def _count(self, tokens: Sequence[str], text: list[str]) -> None:
        """Add tokens to the text; those that came after somebody stopped us are wasted."""
        text += tokens
        self.used.received += len(tokens)
        if self.call.turn.cause is not None:
            self.used.wasted += len(tokens)

    async def _say_slowly(self, tokens: Sequence[str], text: list[str]) -> None:
        """Say more than there is room for: what there is room for, and the rest as the reader takes it."""
        turn, outbox = self.call.turn, self.call.turn.outbox
        while tokens:
            await turn.has_room(self.call.step)
            run, tokens = tokens[: outbox.room], tokens[outbox.room :]
            self._count(run, text)
            outbox.put_all(run)

    def _begin(self, alarm: Alarm, seconds: float) -> None:
        """The first delta is there, `seconds` after the attempt was sent: from now on nobody else is asked."""
        self.call.begun = True
        alarm.move(inf)
        self.place.report(sample=seconds)
        self.leave.answered(asyncio.get_running_loop().time())
        self.call.step.at(TOKENS)
        chosen, observer = self.chosen, self.call.turn.observer
        observer.record(PROVIDER_FIRST_TOKEN_SECONDS, seconds, chosen.provider, chosen.label)
        self.span.set(Attr.GEN_AI_TIME_TO_FIRST_CHUNK, round(seconds, 6))

    def _gather(self, deltas: Deltas) -> None:
        """Take in what is not text."""
        for delta in deltas:
            match delta:
                case Usage():
                    self.used.prompt, self.used.generated = delta.prompt_tokens, delta.generated_tokens
                case Finish():
                    self.reply.finish_reason = delta.reason
                case ToolCallDelta(index):
                    before = self.calls.get(index, ToolCallDelta(index))
                    self.calls[index] = ToolCallDelta(
                        index, delta.id or before.id, delta.name or before.name, before.arguments + delta.arguments
                    )


def about_the_request(failure: ProviderFailure) -> bool:
    """Tell whether the request itself was at fault: another provider would say the same, and none of them is ill."""
    return failure.provider_status in (400, 413, 422)


def _of_failure(failure: ProviderFailure) -> Verdict:
    if failure.kind == "429":
        return Verdict(failure.kind, dropped=True)
    failed = None if about_the_request(failure) else True
    return Verdict(failure.kind, failed=failed, dropped=failure.kind == "timeout")


def _of_cancellation(step: phase) -> Verdict:
    """Say why we broke off: the provider was silent for too long, its answer too long, or it is not its doing."""
    if step.broken_limit is None:
        return STOPPED
    silent = step.broken_limit in (FIRST_TOKEN, TOKEN_GAP)
    return Verdict("timeout", failed=True if silent else None, dropped=silent)


def _asked(chosen: Chosen, request: ModelRequest) -> dict[str, Any]:
    return {
        Attr.GEN_AI_OPERATION: "chat",
        Attr.GEN_AI_PROVIDER: chosen.provider,
        Attr.GEN_AI_REQUEST_MODEL: chosen.label,
        Attr.GEN_AI_REQUEST_STREAM: True,
        Attr.ATTEMPT: request.attempt,
    }


def _tell(turn: Turn, span: Span, chosen: Chosen, request: ModelRequest, failure: ProviderFailure) -> None:
    """Tell what may be known of a failure: its kind, status, code and request id, never its words."""
    span.fail(failure.kind)
    facts = (
        (Attr.PROVIDER_STATUS, failure.provider_status),
        (Attr.PROVIDER_ERROR_CODE, failure.provider_code),
        (Attr.PROVIDER_REQUEST_ID, failure.request_id),
    )
    for name, value in facts:
        if value:
            span.set(name, value)
    turn.observer.log(
        LOG_PROVIDER_FAILED,
        provider=chosen.provider,
        model=chosen.label,
        kind=failure.kind,
        status=failure.provider_status,
        request_id=failure.request_id or None,
        attempt=request.attempt,
    )
