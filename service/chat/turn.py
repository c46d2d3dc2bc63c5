"""One request while it lives: whose it is, how long it may take, why it was stopped, and where its events go."""

from __future__ import annotations

import asyncio
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from service.chat.events import PhaseEvent, RetrievalCompleted
from service.chat.events import Warning as WarningEvent
from service.runtime.outbox import Outbox
from telemetry.catalogue import CANCEL_LATENCY_SECONDS, DEGRADATIONS_TOTAL, LOG_DEGRADED

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from service.chat.degradation import Degradation
    from service.chat.events import Event, Sent
    from service.chat.parts import Chosen
    from service.chat.steps.finalize import Answer
    from service.errors import Cause, ForebayError
    from service.ports import Answered, Begun, ChatMessage, Once, Principal, ToolSpec
    from service.runtime.phase import Total, phase
    from service.work import Accepted
    from telemetry.observe import Observer, Span


@dataclass(frozen=True, slots=True)
class Budgets:
    """What each phase may take, in seconds, by span name, and the limits that are not phases."""

    total: float
    phases: Mapping[str, float]
    first_token: float
    token_gap: float
    emit: float
    persist: float  # finalize and state.persist together


@dataclass(frozen=True, slots=True)
class Ask:
    """What the client asks for, whichever door it came through. Made by the door, from a body that was validated."""

    session_id: str
    message: str
    model: str = ""
    grounding: str = ""
    retrieval: bool = True
    response_schema: Mapping[str, Any] | None = None
    messages: tuple[ChatMessage, ...] | None = None  # a whole prompt of the client's own, instead of the session's
    tools: tuple[ToolSpec, ...] = ()  # the client's own, which it calls itself
    max_output_tokens: int | None = None
    streamed: bool = True  # the client reads token by token
    background: bool = False  # to be a job
    extra: Mapping[str, Any] = field(default_factory=dict)


@dataclass(slots=True)
class Tokens:
    """Counts: `prompt` and `generated` as the provider says; `received` deltas, and `wasted` ones, counted by us."""

    prompt: int = 0
    generated: int = 0
    received: int = 0
    wasted: int = 0

    def add(self, more: Tokens) -> None:
        """Add what was counted elsewhere."""
        self.prompt += more.prompt
        self.generated += more.generated
        self.received += more.received
        self.wasted += more.wasted


def _nothing() -> None:
    """Settle a turn that has reserved nothing."""


@dataclass(eq=False, slots=True, weakref_slot=True)
class Turn:
    """The state of one request. Times are loop time in seconds."""

    message_id: str
    user_message_id: str
    instance_id: str
    route: str
    started: float
    total: Total
    plan: Budgets
    observer: Observer
    span: Span  # the SERVER span
    outbox: Outbox[Sent]
    # who and what: known step by step
    ask: Ask | None = None
    once: Once | None = None
    run: int = 1  # how often this answer was begun: a key may begin it again
    answered: Answered | None = None  # it was completed before: this is a replay
    accepted: Accepted | None = None  # it became a job
    patience: float | None = None  # seconds: the client's own limit
    principal: Principal | None = None
    model: str = ""  # the label: an id of the configuration, never the request's words
    stand_in: Chosen | None = None  # the fallback, once it was asked: it goes on with what follows
    answer: Answer | None = None
    acted: list[str] = field(default_factory=list)  # the tools with side effects that were completed
    settle: Callable[[], None] = _nothing  # replaces what it has reserved of its tenant's quota by what it used
    headers: dict[str, str] = field(default_factory=dict)  # for the client, with whatever it is answered
    # where it is
    phases: list[str] = field(default_factory=list)  # the open ones
    where: str = "input.validation"
    admitted: bool = False
    begun: bool = False  # the store may know it
    committed: bool = False  # the moment of completion has passed
    finalize_by: float | None = None
    wants_phases: bool = False  # a developer's wish; granted in `show_phases`
    phase_events: list[PhaseEvent] = field(default_factory=list)  # what happened before the stream began
    show_phases: bool = False
    streamed: bool = True
    # how it was stopped
    task: asyncio.Task[Any] | None = None  # the flow's, once it runs
    cause: Cause | None = None
    caused_at: float = 0.0
    caused_in: str = ""
    client_left_in: str | None = None
    error: ForebayError | None = None
    refusal: ForebayError | None = None
    # what it used
    degradations: list[str] = field(default_factory=list)
    kept: list[tuple[int, Event]] = field(default_factory=list)  # for a replay, with how much text came before each
    text: list[str] = field(default_factory=list)
    tokens: Tokens = field(default_factory=Tokens)
    tokens_by_model: dict[str, Tokens] = field(default_factory=dict)  # the same, by the label of who answered
    first_token_at: float | None = None  # written to the client
    max_gap: float = 0.0
    producer_blocked: float = 0.0
    reader_blocked: float = 0.0

    @property
    def budgets(self) -> Mapping[str, float]:
        """Seconds for each phase, by its name."""
        return self.plan.phases

    def begin(self, ask: Ask, timeout: float | None) -> Ask:
        """Take in what is asked for, and the client's own limit, which can only shorten."""
        self.ask, self.streamed, self.patience = ask, ask.streamed, timeout
        self._limit(self.plan.total)
        return ask

    def choose(self, chosen: Chosen) -> Chosen:
        """Take the model; one that needs longer than others brings a total of its own."""
        self.model = chosen.label
        self._limit(chosen.budgets.get("total", self.plan.total))
        return chosen

    def _limit(self, total: float) -> None:
        """Set the deadline of the whole: `total` seconds after the start, or earlier if the client waits for less."""
        if self.patience is not None and self.patience < total:
            self.total.deadline, self.total.limit = self.started + self.patience, "client"
        else:
            self.total.deadline, self.total.limit = self.started + total, "total"

    def accept(self, accepted: Accepted) -> None:
        """It is a job now: that is all that this request was to bring about."""
        self.accepted = accepted
        self.mark_committed()

    def begun_as(self, begun: Begun) -> None:
        """Go on under the ids that the store knows it by, with the answer if it was given before."""
        self.message_id, self.user_message_id, self.run = begun.message_id, begun.user_message_id, begun.run
        self.answered = begun.answered

    def left(self) -> float:
        """Seconds that are left of the whole."""
        return self.total.deadline - asyncio.get_running_loop().time()

    def left_to_finalize(self) -> float:
        """Seconds that finalize and state.persist have left, together; their clock starts at the first call."""
        now = asyncio.get_running_loop().time()
        if self.finalize_by is None:
            self.finalize_by = now + self.plan.persist
        return self.finalize_by - now

    def elapsed_ms(self) -> int:
        """Milliseconds since the headers were in."""
        return round((asyncio.get_running_loop().time() - self.started) * 1e3)

    @contextmanager
    def standstill(self, step: phase) -> Iterator[None]:
        """Let the clocks of the whole and of `step` stand still while a human decides; no other phase may be open."""
        loop = asyncio.get_running_loop()
        since = loop.time()
        step.stop_clock(total=False)
        try:
            yield
        finally:
            self.total.deadline += loop.time() - since
            step.start_clock()

    def forget(self) -> None:
        """Let go, once the books are closed, of what is large and of what leads back here.

        An exception keeps the frames that it came through, these keep the turn and the turn keeps the exception: its
        whole text would wait for the garbage collector, which is kept off the streams (service/server/run.py).
        """
        self.task = self.error = self.refusal = None
        self.settle = _nothing
        self.text.clear()
        self.kept.clear()

    # --- stopping ----------------------------------------------------------------------------------------------------

    def cancel(self, cause: Cause) -> bool:
        """Stop everything, for `cause`; False when too late: it was committed, has failed, or is being stopped."""
        if self.cause is not None or self.committed or self.error is not None:
            return False
        self.cause, self.caused_in = cause, self.where
        self.caused_at = asyncio.get_running_loop().time()
        if self.task is not None:
            self.task.cancel()
        return True

    def mark_committed(self) -> None:
        """The moment of completion: from now on nothing can cancel it."""
        self.committed = True

    def note_released(self) -> None:
        """The flow was stopped and unwound: its upstream is closed, its places are released."""
        if self.cause is not None and not self.committed:
            now = asyncio.get_running_loop().time()
            self.observer.record(CANCEL_LATENCY_SECONDS, now - self.caused_at, span=self.span)

    def spend(self, model: str, used: Tokens) -> None:
        """Count what one attempt of `model` used, whatever became of it."""
        self.tokens.add(used)
        self.tokens_by_model.setdefault(model, Tokens()).add(used)

    # --- saying ------------------------------------------------------------------------------------------------------

    async def emit(self, event: Sent) -> None:
        """Send `event`: waits while the queue is full."""
        if not isinstance(event, str) and event.kept:
            self._keep(event)
        await self.outbox.put(event)

    async def emit_in(self, step: phase, event: Sent) -> None:
        """Send `event` from within `step`, whose clock stands still while the reader is slow."""
        await self.has_room(step)
        await self.emit(event)

    async def has_room(self, step: phase) -> None:
        """Wait while the queue is full, the clock of `step` standing still: it is the reader who is slow."""
        if not self.outbox.full:
            return
        loop = asyncio.get_running_loop()
        since = loop.time()
        step.stop_clock()
        try:
            await self.outbox.has_room()
        finally:
            step.start_clock()
            self.producer_blocked += loop.time() - since

    def _keep(self, event: Event) -> None:
        """Keep `event` for a replay, if there can be one; what was found in any case, for an evaluation."""
        if self.answered is None and (self.once is not None or type(event) is RetrievalCompleted):
            self.kept.append((sum(map(len, self.text)), event))

    async def warn_waiting(self) -> None:
        """Say that the stream is quiet because all places of the model are taken."""
        # Not by `emit`, which keeps it: that one waited is no part of the answer.
        await self.outbox.put(WarningEvent(code="waiting_for_model", message="All places of the model are in use"))

    async def degrade(self, row: Degradation, message: str) -> None:
        """Go on with less, and say so: to the client, in a metric, in the log."""
        self.degradations.append(row.dependency)
        self.observer.inc(DEGRADATIONS_TOTAL, row.dependency)
        self.observer.log(LOG_DEGRADED, dependency=row.dependency, code=row.warning)
        await self.emit(WarningEvent(code=row.warning, message=message))

    def phase_changed(self, name: str, budget_ms: int | None, elapsed_ms: int | None, outcome: str | None) -> None:
        """Tell a developer who asked for it; a full queue drops this one, which is only a help."""
        if not self.wants_phases:
            return
        state: Literal["started", "ended"] = "ended" if outcome else "started"
        event = PhaseEvent(phase=name, state=state, budget_ms=budget_ms, elapsed_ms=elapsed_ms, outcome=outcome)
        if not self.outbox.opened:
            self.phase_events.append(event)
        elif self.show_phases and not self.outbox.full and not self.outbox.closed:
            self.outbox.put_nowait(event)

    async def reveal_phases(self) -> None:
        """Show what happened until now, and what follows."""
        self.show_phases = True
        for event in self.phase_events:
            await self.emit(event)
