"""The same retrieval and reranking without a thread or a process, for the simulation in virtual time.

The SQL and the scoring are the real ones; how long they take, and whether they fail, is injected as `weather`: an async
function awaited before the work, which sleeps on the loop's clock and raises what it likes.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Awaitable, Callable, Sequence

from service.errors import RetrievalFailed
from service.ports import Document, Scope
from service.retrieval.index import Index
from service.retrieval.rerank import in_order, to_score
from service.retrieval.scoring import score

Weather = Callable[[], Awaitable[None]]


async def fair() -> None:
    """No delay and no fault."""


class InlineRetriever:
    """`FtsRetriever` on an index in memory."""

    def __init__(self, weather: Weather = fair) -> None:
        self._index = Index.open(":memory:")
        self._weather = weather

    async def query(self, question: str, scope: Scope, limit: int) -> Sequence[Document]:
        """Return at most `limit` documents of the scope, best first; raise RetrievalFailed."""
        await self._weather()
        try:
            return self._index.search(question, scope, limit)
        except (sqlite3.Error, UnicodeError) as error:
            raise RetrievalFailed from error

    async def fetch(self, ids: Sequence[str], scope: Scope) -> Sequence[Document]:
        """Return those of the passages that are there and in `scope`, in no order; raise RetrievalFailed."""
        await self._weather()
        try:
            return self._index.fetch(ids, scope)
        except (sqlite3.Error, UnicodeError) as error:
            raise RetrievalFailed from error

    async def add_documents(self, tenant: str, documents: Sequence[Document]) -> int:
        """Write `documents` as `tenant`'s; return how many were new or had changed; raise RetrievalFailed."""
        await self._weather()
        try:
            return self._index.add(tenant, documents)
        except (sqlite3.Error, UnicodeError) as error:
            raise RetrievalFailed("The documents could not be indexed") from error

    async def close(self) -> None:
        """Forget the index."""
        self._index.close()


class InlineReranker:
    """`ProcessReranker` in the caller's own task."""

    def __init__(self, weather: Weather = fair) -> None:
        self._weather = weather

    async def rerank(self, question: str, documents: Sequence[Document]) -> Sequence[Document]:
        """Return the same documents, best first, with scores from 0 to 1."""
        await self._weather()
        return in_order(documents, score(*to_score(question, documents)))
