"""What the steps of jobs work with, as protocols: made by the composition root from the parts of the service."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from service.ports import Document, Policy, Principal, Retriever, Scope
    from telemetry.observe import Observer

Converse = Callable[["Principal", Mapping[str, Any], str], Awaitable[Mapping[str, Any]]]
"""Runs one chat turn to its end: for whom, the body of `/chat/stream`, a key; the same key never answers twice."""


class Index(Protocol):
    """Where documents become findable, and are read again."""

    async def add_documents(self, tenant: str, documents: Sequence[Document]) -> int:
        """Write documents, each known by its id; return how many were new or had changed; raise RetrievalFailed."""
        ...

    async def fetch(self, ids: Sequence[str], scope: Scope) -> Sequence[Document]:
        """Return those of the passages that are there and in `scope`, in no order; raise RetrievalFailed."""
        ...


@dataclass(frozen=True, slots=True)
class Completion:
    """What a model said, and the ids of the documents that it cites, in the order of their first mention."""

    text: str
    citations: tuple[str, ...]


class Complete(Protocol):
    """Asks a model once, with the same places, retries and budgets as a chat turn."""

    async def __call__(
        self, principal: Principal, model: str, question: str, documents: Sequence[Document]
    ) -> Completion:
        """Return the model's whole answer; raise a ForebayError."""
        ...


@dataclass(frozen=True, slots=True)
class Finished:
    """A completed turn. `given`: ids of the passages that the model had, in its prompt's order; None: no search."""

    question: str
    answer: str
    given: tuple[str, ...] | None
    results: tuple[str, ...]


Recall = Callable[["Principal", str], Awaitable[Finished]]
"""Reads a completed turn by its message id; raises NotFound if this user has none."""


@dataclass(frozen=True, slots=True)
class Means:
    """Everything that a step may touch."""

    policy: Policy
    retriever: Retriever
    index: Index
    complete: Complete
    converse: Converse
    recall: Recall
    observer: Observer
