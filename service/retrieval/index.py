"""The full-text index: BM25 over SQLite's FTS5, in a file of its own. Plain blocking code, called in a thread by `fts`.

The scope is part of the SQL: a passage of another tenant, or with a label that the caller may not see, is never read
out of the database. Word statistics are over the whole file, so a BM25 score is for ordering and tells no one anything.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from service.ports import Document, Scope
from service.retrieval.terms import expression
from service.runtime.wal import use_wal

BUSY_SECONDS = 5.0
"""How long a write waits for another process's write: `--workers N` all fill the index at start."""

_SCHEMA = """
CREATE TABLE IF NOT EXISTS documents (
    rowid INTEGER PRIMARY KEY,
    tenant TEXT NOT NULL,
    id TEXT NOT NULL,
    title TEXT NOT NULL,
    text TEXT NOT NULL,
    labels TEXT NOT NULL,
    digest TEXT NOT NULL,
    UNIQUE (tenant, id)
) STRICT;
CREATE VIRTUAL TABLE IF NOT EXISTS passages USING fts5 (
    title, text, content='documents', content_rowid='rowid', tokenize='porter unicode61 remove_diacritics 2'
);
CREATE TRIGGER IF NOT EXISTS passage_added AFTER INSERT ON documents BEGIN
    INSERT INTO passages (rowid, title, text) VALUES (new.rowid, new.title, new.text);
END;
CREATE TRIGGER IF NOT EXISTS passage_changed AFTER UPDATE ON documents BEGIN
    INSERT INTO passages (passages, rowid, title, text) VALUES ('delete', old.rowid, old.title, old.text);
    INSERT INTO passages (rowid, title, text) VALUES (new.rowid, new.title, new.text);
END;
"""

_UPSERT = """
INSERT INTO documents (tenant, id, title, text, labels, digest) VALUES (?, ?, ?, ?, ?, ?)
ON CONFLICT (tenant, id) DO UPDATE
    SET title = excluded.title, text = excluded.text, labels = excluded.labels, digest = excluded.digest
    WHERE digest <> excluded.digest
RETURNING rowid
"""

# Every label of the passage must be one the caller may see.
_IN_SCOPE = """
  AND d.tenant = :tenant
  AND NOT EXISTS (
      SELECT 1 FROM json_each(d.labels) AS label WHERE label.value NOT IN (SELECT value FROM json_each(:labels))
  )
"""

# A word in the title counts as much as four in the text.
_SEARCH = f"""
SELECT d.id, d.title, d.text, d.tenant, d.labels, -bm25(passages, 4.0, 1.0) AS score
FROM passages JOIN documents AS d ON d.rowid = passages.rowid
WHERE passages MATCH :expression {_IN_SCOPE}
ORDER BY score DESC, d.id
LIMIT :limit
"""  # noqa: S608 -- our own words

_FETCH = f"""
SELECT d.id, d.title, d.text, d.tenant, d.labels, 0.0 FROM documents AS d
WHERE d.id IN (SELECT value FROM json_each(:ids)) {_IN_SCOPE}
"""  # noqa: S608


class Index:
    """One connection to the index file, used by one thread at a time. Every method raises sqlite3.Error."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._db = connection

    @classmethod
    def open(cls, path: Path | str, *, read_only: bool = False) -> Index:
        """Open the file, making it and its folder if needed.

        `:memory:` gives one that lives as long as the connection.
        """
        if isinstance(path, Path) and not read_only:
            path.parent.mkdir(parents=True, exist_ok=True)
        db = sqlite3.connect(path, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False)
        try:
            if read_only:
                db.execute("PRAGMA query_only = ON")
            else:
                use_wal(db, BUSY_SECONDS)
                db.execute("PRAGMA synchronous = NORMAL")
                db.executescript(_SCHEMA)
        except BaseException:
            db.close()
            raise
        return cls(db)

    def search(self, question: str, scope: Scope, limit: int) -> list[Document]:
        """Return at most `limit` passages of `scope` that share a term with `question`, best first."""
        wanted = expression(question)
        if not wanted or limit < 1:
            return []
        return self._select(_SEARCH, scope, expression=wanted, limit=limit)

    def fetch(self, ids: Sequence[str], scope: Scope) -> list[Document]:
        """Return those of the passages that are there and in `scope`, in no order, without a score."""
        return self._select(_FETCH, scope, ids=json.dumps(ids))

    def _select(self, statement: str, scope: Scope, **values: str | int) -> list[Document]:
        labels = json.dumps(sorted(scope.labels))
        rows = self._db.execute(statement, {"tenant": scope.tenant, "labels": labels, **values})
        return [
            Document(id=name, title=title, text=text, tenant=tenant, labels=frozenset(json.loads(has)), score=score)
            for name, title, text, tenant, has, score in rows
        ]

    def add(self, tenant: str, documents: Iterable[Document]) -> int:
        """Write `documents` as `tenant`'s, all or none; return how many were new or had changed."""
        with self._transaction():
            return sum(bool(self._db.execute(_UPSERT, _row(tenant, document)).fetchall()) for document in documents)

    def interrupt(self) -> None:
        """End the statement that runs now, from another thread: it raises OperationalError."""
        with suppress(sqlite3.ProgrammingError):  # closed meanwhile
            self._db.interrupt()

    def close(self) -> None:
        """Close the connection."""
        self._db.close()

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            if self._db.in_transaction:  # an interrupted statement may have rolled back by itself
                self._db.execute("ROLLBACK")
            raise
        self._db.execute("COMMIT")


def _row(tenant: str, document: Document) -> Sequence[str]:
    content = (document.title, document.text, json.dumps(sorted(document.labels)))
    digest = hashlib.sha256(json.dumps(content).encode()).hexdigest()
    return (tenant, document.id, *content, digest)
