"""The index file itself: several processes, a query that is given up, a file that is broken."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path

import pytest

import service
from service.errors import RetrievalFailed
from service.ports import Document, Scope
from service.retrieval.fts import FtsRetriever
from service.retrieval.index import Index
from tests.support import PATIENCE

SCOPE = Scope("demo", frozenset({"public"}))
SOON = PATIENCE

FILLER = """
import asyncio, sys
from pathlib import Path
from service.retrieval import corpus
from service.retrieval.fts import FtsRetriever
documents = corpus.documents()
async def main():
    retriever = FtsRetriever(Path(sys.argv[1]))
    await retriever.open()
    print(await retriever.add_documents("demo", documents))
    await retriever.close()
asyncio.run(main())
"""


def test_several_processes_fill_one_new_file_at_once(tmp_path):
    command = [sys.executable, "-c", FILLER, str(tmp_path / "index.db")]
    root = Path(service.__file__).parents[1]
    fillers = [subprocess.Popen(command, cwd=root, stdout=subprocess.PIPE, text=True) for _ in range(4)]
    written = sorted(int(filler.communicate(timeout=SOON)[0]) for filler in fillers)
    assert [filler.returncode for filler in fillers] == [0] * 4
    assert written[:3] == [0, 0, 0]
    assert written[3] > 0


def test_what_was_written_is_there_after_a_restart(tmp_path):
    async def main(*documents):
        retriever = FtsRetriever(tmp_path / "index.db")
        await retriever.open()
        try:
            written = await retriever.add_documents("demo", documents)
            return written, len(await retriever.query("risk", SCOPE, 9))
        finally:
            await retriever.close()

    assert asyncio.run(main(Document("a", "", "risk", "demo", frozenset()))) == (1, 1)
    assert asyncio.run(main()) == (0, 1)


def test_a_query_that_is_given_up_is_interrupted_and_the_next_one_works(tmp_path):
    # A join of the table with itself, many times over: hours of work, if nobody interrupts it.
    endless = "SELECT count(*) FROM " + ", ".join(f"documents AS d{n}" for n in range(9))

    async def main():
        retriever = FtsRetriever(tmp_path / "index.db", readers=1)
        await retriever.open()
        try:
            await retriever.add_documents(
                "demo", [Document(str(n), "", "risk", "demo", frozenset()) for n in range(50)]
            )
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.1):
                    await retriever._reading.use(lambda index: index._db.execute(endless).fetchall())
            return await asyncio.wait_for(retriever.query("risk", SCOPE, 9), SOON)
        finally:
            await asyncio.wait_for(retriever.close(), SOON)

    assert len(asyncio.run(main())) == 9


def test_a_file_that_is_no_database_fails_at_the_opening(tmp_path):
    (tmp_path / "index.db").write_bytes(b"not a database, but long enough to be read as one" * 100)

    async def main():
        retriever = FtsRetriever(tmp_path / "index.db")
        try:
            with pytest.raises(RetrievalFailed, match="cannot be opened"):
                await retriever.open()
        finally:
            await retriever.close()

    asyncio.run(main())


def test_a_reader_cannot_write(tmp_path):
    Index.open(tmp_path / "index.db").close()
    reader = Index.open(tmp_path / "index.db", read_only=True)
    try:
        with pytest.raises(Exception, match="readonly"):
            reader.add("demo", [Document("a", "", "risk", "demo", frozenset())])
    finally:
        reader.close()
