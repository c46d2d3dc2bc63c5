"""What the steps of jobs work with, as protocols: made by the composition root from the parts of the service."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from service.ports import Document, Policy, Principal, Retriever

Converse = Callable[["Principal", Mapping[str, Any], str], Awaitable[Mapping[str, Any]]]
"""Runs one chat turn to its end: for whom, the body of `/chat/stream`, a key; the same key never answers twice."""


class Index(Protocol):
    """Where documents become findable."""

    async def add_documents(self, tenant: str, documents: Sequence[Document]) -> int:
        """Write documents, each known by its id; return how many were new or had changed; raise RetrievalFailed."""
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
class Means:
    """Everything that a step may touch."""

    policy: Policy
    retriever: Retriever
    index: Index
    complete: Complete
    converse: Converse
