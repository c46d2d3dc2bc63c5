"""`ports.Retriever` over the index file, read and written in threads: the retrieval of a real service.

Built by the composition root; queried by the flow's retrieval step, written by the demo's seeding and by ingestion.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from pathlib import Path

from service.errors import RetrievalFailed
from service.ports import Document, Scope
from service.retrieval.index import Index
from service.runtime.lending import Lending

# What a document or a question of a caller can make SQLite raise; a lone surrogate is no text for it.
_FAILURES = (sqlite3.Error, UnicodeError)


class FtsRetriever:
    """Full-text retrieval from the file `path`.

    Args:
        path: the index file; made on `open`.
        readers: how many queries run at once, each on a connection and a thread of its own.
    """

    def __init__(self, path: Path, *, readers: int = 2) -> None:
        self.readers = readers
        self._reading = Lending(
            lambda: Index.open(path, read_only=True), size=readers, name="index-reader", refusal=RetrievalFailed
        )
        self._writing = Lending(lambda: Index.open(path), size=1, name="index-writer", refusal=RetrievalFailed)

    async def open(self) -> None:
        """Make the file if needed and open every connection; raise RetrievalFailed."""
        try:
            await self._writing.open()
            await self._reading.open()
        except _FAILURES as error:
            raise RetrievalFailed("The index cannot be opened") from error

    async def close(self) -> None:
        """End what runs and close every connection, within a few seconds."""
        await self._reading.close()
        await self._writing.close()

    async def query(self, question: str, scope: Scope, limit: int) -> Sequence[Document]:
        """Return at most `limit` documents of the scope, best first; raise RetrievalFailed."""
        try:
            return await self._reading.use(lambda index: index.search(question, scope, limit))
        except _FAILURES as error:
            raise RetrievalFailed from error

    async def fetch(self, ids: Sequence[str], scope: Scope) -> Sequence[Document]:
        """Return those of the passages that are there and in `scope`, in no order; raise RetrievalFailed."""
        try:
            return await self._reading.use(lambda index: index.fetch(ids, scope))
        except _FAILURES as error:
            raise RetrievalFailed from error

    async def add_documents(self, tenant: str, documents: Sequence[Document]) -> int:
        """Write `documents` as `tenant`'s, whatever tenant they name; return how many were new or had changed.

        All or none, and idempotent: a document is known by its id, and written only if its content differs. A
        cancelled write has either happened or not.

        Raises:
            RetrievalFailed: nothing was written.
        """
        try:
            return await self._writing.use(lambda index: index.add(tenant, documents))
        except _FAILURES as error:
            raise RetrievalFailed("The documents could not be indexed") from error
