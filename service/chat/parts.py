"""What a turn uses, built once by the composition root (service/app.py) and handed to the flow."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Protocol

from service.chat.live import Live
from service.providers.rows import Price

if TYPE_CHECKING:
    from service.calls import Schemas
    from service.chat.toolbox import Toolbox
    from service.chat.turn import Ask, Budgets, Turn
    from service.ports import (
        Document,
        Ending,
        Message,
        Model,
        ModelRequest,
        Policy,
        Principal,
        Reranker,
        Retriever,
        Store,
    )
    from service.runtime.circuit import Circuit
    from service.runtime.gate import Gate
    from service.runtime.retry import Retries
    from service.runtime.world import World
    from service.work import Accepted, NewJob
    from telemetry.observe import Observer


FREE = Price()


@dataclass(frozen=True, slots=True)
class Chosen:
    """A model that was chosen for a turn: `label` names it in metrics and events, `upstream` at its provider.

    `adapt` makes a prompt that was put together for another model one for this; only a `fallback` needs it. `others`
    serve the id that was asked for at other prices.
    """

    label: str
    upstream: str
    provider: str
    model: Model
    gate: Gate
    circuit: Circuit
    retries: Retries
    adapt: Callable[[ModelRequest], ModelRequest]
    max_attempts: int = 3
    fallback: Chosen | None = None
    others: tuple[Chosen, ...] = ()
    context_tokens: int | None = None
    max_output_tokens: int | None = None
    calls_tools: bool = True
    price: Price = FREE
    budgets: Mapping[str, float] = field(default_factory=dict)  # first_token, token_gap, generation, total in seconds


Check = Callable[[str, Collection[str]], str | None]
"""Looks at a finished text, and the tools with side effects that were completed; returns what is wrong, or None."""


class Models(Protocol):
    """The configured models."""

    def choose(self, model_id: str) -> Chosen:
        """Return the model for an id ("" for the default); raise NotFound, or InvalidRequest for bad parameters."""
        ...

    def labels(self) -> tuple[str, ...]:
        """Return every model's id, as it is configured."""
        ...

    def age(self, now: float) -> None:
        """Take note of the time (the event loop's) for models that nobody asks any more; called from time to time."""
        ...


class Jobs(Protocol):
    """Where long work is asked for."""

    def checked(self, kind: str, given: Mapping[str, Any]) -> str:
        """Return the input of a job as JSON, valid for its kind; raise InvalidRequest naming the field."""
        ...

    async def submit(self, job: NewJob, on_commit: Callable[[Accepted], object] | None = None) -> Accepted:
        """Queue a job; raise Conflict, RateLimited, Overloaded or PersistFailed."""
        ...


class Assemble(Protocol):
    """Puts a prompt together."""

    def __call__(
        self, chosen: Chosen, ask: Ask, history: Sequence[Message], documents: Sequence[Document], message_id: str
    ) -> ModelRequest:
        """Return the request for the model."""
        ...


@dataclass(frozen=True, slots=True)
class Gates:
    """The places there are, beside those of the models."""

    requests: Gate
    retrieval: Gate
    rerank: Gate


@dataclass(frozen=True, slots=True)
class Habits:
    """What the settings say of every turn. Depths and counts; seconds."""

    grounding: str = "preferred"
    documents: int = 5
    suggestions: int = 3
    history: int = 20
    stream_queue: int = 64
    max_body: int = 4 * 1024 * 1024  # bytes
    keep_alive: float = 15.0
    queue_wait: float = 2.0  # for a turn's own place


def _unseen(_principal: Principal, _message_id: str) -> None:
    """Let a completed answer go."""


@dataclass(frozen=True, slots=True)
class Parts:
    """Everything that answer() may touch."""

    world: World
    observer: Observer
    authenticate: Callable[[str | None, str], Awaitable[Principal]]
    policy: Policy
    store: Store
    retriever: Retriever
    reranker: Reranker
    models: Models
    gates: Gates
    habits: Habits
    budgets: Budgets
    instance_id: str
    assemble: Assemble
    toolbox: Toolbox
    schemas: Schemas  # checks what clients want answers to be; the tools have their own: no client may hold them up
    # refuses at once: draining, rate, quota, full queue, deadline; returns who answers, which may be a cheaper one
    admit: Callable[[Turn, Chosen], Awaitable[Chosen]]
    admit_job: Callable[[Turn], Awaitable[None]]  # the same for what is only to be queued: draining, rate, quota
    jobs: Jobs
    suggestions: Retriever | None = None  # a second source, of what else to look at
    checks: Sequence[Check] = ()  # of finished answers to prompts of ours
    sample: Callable[[Principal, str], None] = _unseen  # told of each completed answer, by its message id
    live: Live = field(default_factory=Live)
    unsettled: list[Ending] = field(default_factory=list)  # endings that the store did not take: tried again later

    def acting_for(self, principal: Principal) -> Parts:
        """Return the same parts for a turn that no key came with: its job knows whose it is."""

        async def known(_authorization: str | None, _address: str) -> Principal:
            return principal

        return replace(self, authenticate=known)
