"""The books of a request: counted when it starts, and exactly once as what it became. Only conduct.py calls it.

For each route, always: started = completed + degraded + rejected + timed_out + cancelled + errored + in flight.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Protocol

from service.chat.plan import phase_of
from service.errors import Cause, PhaseTimeout
from telemetry import catalogue as rows
from telemetry.catalogue import Attr

if TYPE_CHECKING:
    from service.chat.turn import Turn
    from service.errors import ForebayError

_UNHEARD = (Cause.CLIENT_DISCONNECT, Cause.STALLED_READER)  # nobody was there to be told of an error


class Books(Protocol):
    """Who counts a request."""

    def close(self) -> None:
        """Write down what became of it."""
        ...


class Account:
    """Opened with the request; `close` writes everything that is known at its end."""

    __slots__ = ("_turn",)

    def __init__(self, turn: Turn) -> None:
        self._turn = turn
        turn.observer.inc(rows.REQUESTS_STARTED_TOTAL, turn.route)
        turn.observer.add(rows.REQUESTS_IN_FLIGHT, 1, turn.route)
        turn.span.set(Attr.PHASE, "http.request")

    def close(self) -> None:
        """Count the request as what it became, finish its span's attributes, write its line."""
        turn = self._turn
        outcome = outcome_of(turn)
        turn.observer.add(rows.REQUESTS_IN_FLIGHT, -1, turn.route)
        turn.observer.inc(rows.REQUESTS_TOTAL, turn.route, outcome)
        self._describe(turn, outcome)  # first: the line is what is read when the rest is in doubt
        self._count_ending(turn, outcome)
        self._count_tenant(turn, outcome)
        self._count_stream(turn, outcome)
        _count_tokens(turn, outcome)

    def _count_ending(self, turn: Turn, outcome: str) -> None:
        """Refused, cancelled, left, ended by an error event."""
        seen = turn.observer
        if outcome == "rejected":
            seen.inc(rows.REJECTIONS_TOTAL, turn.route, _reason(turn))
        if outcome == "cancelled" and turn.cause is not None:
            seen.inc(rows.CANCELLATIONS_TOTAL, turn.route, turn.cause, _split(turn.caused_in))
        if turn.client_left_in is not None and turn.admitted:
            seen.inc(rows.CLIENT_DISCONNECTS_TOTAL, turn.route, _split(turn.client_left_in))
        if turn.error is not None and turn.refusal is None and turn.cause not in _UNHEARD:
            seen.inc(rows.STREAM_ERRORS_TOTAL, turn.error.code)

    def _count_stream(self, turn: Turn, outcome: str) -> None:
        """What the stream took and gave."""
        if not turn.admitted:
            return
        seen, model, span = turn.observer, turn.model, turn.span
        now = asyncio.get_running_loop().time()
        seen.record(rows.STREAM_QUEUE_HIGH_WATER, turn.outbox.high_water, span=span)
        seen.inc(rows.PRODUCER_BLOCKED_SECONDS_TOTAL, by=turn.producer_blocked)
        seen.inc(rows.READER_BLOCKED_SECONDS_TOTAL, by=turn.reader_blocked)
        if turn.answered is not None:
            return  # a replay says nothing of the model
        seen.record(rows.STREAM_DURATION_SECONDS, now - turn.started, model, outcome, span=span)
        if turn.tokens.received > 1:
            seen.record(rows.STREAM_MAX_GAP_SECONDS, turn.max_gap, model, span=span)
        if not turn.streamed:
            return
        if turn.first_token_at is not None:
            seen.record(
                rows.TIME_TO_FIRST_TOKEN_SECONDS, turn.first_token_at - turn.started, turn.route, model, span=span
            )
        elif (missed := _missed(turn)) is not None:
            seen.inc(rows.FIRST_TOKEN_MISSED_TOTAL, turn.route, missed)

    def _count_tenant(self, turn: Turn, outcome: str) -> None:
        if turn.principal is None:
            return
        seen, tenant = turn.observer, turn.principal.tenant
        seen.inc(rows.TENANT_REQUESTS_TOTAL, tenant, outcome)
        if outcome == "rejected":
            seen.inc(rows.TENANT_REJECTIONS_TOTAL, tenant, _reason(turn))

    def _describe(self, turn: Turn, outcome: str) -> None:
        """Put the request's facts on its span, and the same ones into its one line of the log."""
        replayed = turn.answered is not None and turn.committed
        first = None if turn.first_token_at is None or replayed else round((turn.first_token_at - turn.started) * 1e3)
        facts: dict[str, str | int | None] = {
            Attr.REQUEST_OUTCOME: outcome,
            Attr.REQUEST_DECIDED_BY: _decided_by(turn),
            Attr.REQUEST_CAUSE: _cause(turn, outcome),
            Attr.TIME_TO_FIRST_TOKEN_MS: first,
            Attr.TENANT: turn.principal.tenant if turn.principal else None,
            Attr.MESSAGE_ID: turn.message_id if turn.begun or replayed else None,
            Attr.JOB_ID: turn.accepted.job.job_id if turn.accepted else None,
            Attr.GEN_AI_CONVERSATION_ID: turn.ask.session_id if turn.ask else None,
            Attr.GEN_AI_REQUEST_MODEL: turn.model or None,
            Attr.GEN_AI_INPUT_TOKENS: turn.tokens.prompt,
            Attr.GEN_AI_OUTPUT_TOKENS: turn.tokens.generated,
            Attr.DEGRADED: ",".join(turn.degradations) or None,
            Attr.REPLAYED: replayed or None,
        }
        turn.span.put(facts)
        if outcome in ("timed_out", "errored"):
            turn.span.fail("timeout" if outcome == "timed_out" or turn.error is None else turn.error.code)
        turn.observer.log(
            rows.LOG_REQUEST,
            route=turn.route,
            outcome=outcome,
            decided_by=facts[Attr.REQUEST_DECIDED_BY],
            cause=facts[Attr.REQUEST_CAUSE],
            code=turn.error.code if turn.error else None,
            tenant=facts[Attr.TENANT],
            model=facts[Attr.GEN_AI_REQUEST_MODEL],
            message_id=turn.message_id,
            replayed=replayed,
            time_to_first_token_ms=first,
            duration_ms=turn.elapsed_ms(),
            prompt_tokens=turn.tokens.prompt,
            generated_tokens=facts[Attr.GEN_AI_OUTPUT_TOKENS],
        )


class SideAccount:
    """The books of what is part of a job: its tokens. Everything else is counted as the job, which `error` is for."""

    __slots__ = ("_turn", "error")

    def __init__(self, turn: Turn) -> None:
        self._turn = turn
        self.error: ForebayError | None = None

    def close(self) -> None:
        """Count the tokens."""
        self.error = self._turn.error
        _count_tokens(self._turn, outcome_of(self._turn))


def _count_tokens(turn: Turn, outcome: str) -> None:
    """Count what models have read and said for this turn, whatever became of it; a replay has asked none."""
    seen = turn.observer
    for answering, tokens in turn.tokens_by_model.items():
        seen.inc(rows.GENERATED_TOKENS_TOTAL, answering, outcome, by=tokens.generated)
        seen.inc(rows.PROMPT_TOKENS_TOTAL, answering, by=tokens.prompt)
        seen.inc(rows.WASTED_TOKENS_TOTAL, answering, by=tokens.wasted)
    if turn.principal is not None:
        seen.inc(rows.TENANT_TOKENS_TOTAL, turn.principal.tenant, "prompt", by=turn.tokens.prompt)
        seen.inc(rows.TENANT_TOKENS_TOTAL, turn.principal.tenant, "generated", by=turn.tokens.generated)


def outcome_of(turn: Turn) -> str:
    """Return which one of the six outcomes the request has (contract, section 3)."""
    if turn.committed:
        return "degraded" if turn.degradations else "completed"
    if turn.cause is not None:
        return "cancelled"
    if turn.refusal is not None and turn.refusal.reason is not None:
        return "rejected"
    return "timed_out" if isinstance(turn.error, PhaseTimeout) else "errored"


def _reason(turn: Turn) -> str:
    """Why it was refused: a value of `rejections_total{reason}`."""
    assert turn.refusal is not None  # noqa: S101  (types: the outcome says so)
    return str(turn.refusal.reason)


def _cause(turn: Turn, outcome: str) -> str | None:
    if outcome == "cancelled":
        return turn.cause
    return _reason(turn) if outcome == "rejected" else None


def _decided_by(turn: Turn) -> str:
    if turn.cause is not None and not turn.committed:
        return phase_of(turn.caused_in)
    return phase_of((turn.error and turn.error.phase) or turn.where)


def _missed(turn: Turn) -> str | None:
    """Why no first token was ever written: without this the histogram would look best in an outage."""
    if turn.committed:
        return "client_left" if turn.client_left_in else None
    if turn.cause is not None:
        return "shutdown" if turn.cause is Cause.SHUTDOWN else "client_left"
    return "timeout" if isinstance(turn.error, PhaseTimeout) else "error"


def _split(phase: str) -> str:
    """`model.stream` is counted as one of its halves."""
    return "model.first_token" if phase == "model.stream" else phase
