"""`ports.Reranker`: the scoring of `scoring` in child processes, so that CPU work never stands in the event loop's way.

Built by the composition root, called by the flow's rerank step. The processes are plain children on pipes, not
`multiprocessing`: its children import the parent's main module again (the whole service, 40 MB and 0.4 s each). A child
whose caller left or ran out of time is killed at once and replaced; it has no state to lose.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from typing import IO

from service.errors import RetrievalFailed
from service.ports import Document
from service.retrieval import scoring
from service.retrieval.lending import Lending
from service.retrieval.terms import terms

STOP_SECONDS = 1.0
"""How long a killed process may take to be gone."""


class ScoringProcess:
    """One child that scores. It ignores the terminal's Ctrl-C (a session of its own) and ends with its parent."""

    def __init__(self) -> None:
        self._child = subprocess.Popen(  # noqa: S603 - our interpreter and our file
            [sys.executable, "-I", "-S", scoring.__file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,  # an exception's text may quote a passage
            text=True,
            encoding="ascii",
            start_new_session=True,
        )

    @property
    def pid(self) -> int:
        """The child's process id."""
        return self._child.pid

    def score(self, question: str, passages: Sequence[str]) -> list[float]:
        """Return one score for each passage; block until it is there. Raise OSError if the child has died."""
        given, taken = _pipe(self._child.stdin), _pipe(self._child.stdout)
        given.write(json.dumps([question, passages]) + "\n")
        given.flush()
        line = taken.readline()
        if not line.endswith("\n"):
            raise BrokenPipeError("the scoring process has ended")
        scores: list[float] = json.loads(line)
        return scores

    def interrupt(self) -> None:
        """Kill the child: whoever waits for its answer gets the end of the pipe."""
        self._child.kill()

    def close(self) -> None:
        """Kill the child, collect it, and close its pipes."""
        self._child.kill()
        with suppress(subprocess.TimeoutExpired):
            self._child.wait(STOP_SECONDS)
        for pipe in (self._child.stdin, self._child.stdout):
            with suppress(OSError):  # what was still buffered has no reader any more
                _pipe(pipe).close()


class ProcessReranker:
    """Reranks in `workers` processes: as many at once, the next one waits for its turn."""

    def __init__(self, *, workers: int = 1) -> None:
        self.workers = workers
        self._processes = Lending(ScoringProcess, size=workers, name="rerank")

    async def warm(self) -> None:
        """Start every process and see it answer, so that no request waits for a start; raise RetrievalFailed."""
        try:
            await self._processes.open()
            await self._processes.use(lambda process: process.score("ready", ["ready"]))
        except OSError as error:
            raise RetrievalFailed("The reranker cannot be started") from error

    async def close(self) -> None:
        """Kill every process, within a few seconds."""
        await self._processes.close()

    async def rerank(self, question: str, documents: Sequence[Document]) -> Sequence[Document]:
        """Return the same documents, best first, with scores from 0 to 1; raise RetrievalFailed.

        It takes as long as it takes: the caller's budget cancels it, and the process is replaced.
        """
        if not documents:
            return ()
        asked, passages = to_score(question, documents)
        try:
            scores = await self._processes.use(lambda process: process.score(asked, passages))
        except (OSError, ValueError) as error:
            raise RetrievalFailed("The reranking failed") from error
        return in_order(documents, scores)


def to_score(question: str, documents: Sequence[Document]) -> tuple[str, list[str]]:
    """Return what is scored: the question without its empty words, and the passages, cut to what will be read."""
    passages = [f"{document.title}\n{document.text}"[: scoring.LONGEST_PASSAGE] for document in documents]
    return " ".join(terms(question)), passages


def in_order(documents: Sequence[Document], scores: Sequence[float]) -> tuple[Document, ...]:
    """Return the documents with their new scores, best first; equals keep their order."""
    scored = [replace(document, score=value) for document, value in zip(documents, scores, strict=True)]
    return tuple(sorted(scored, key=lambda document: -document.score))


def _pipe(pipe: IO[str] | None) -> IO[str]:
    if pipe is None:
        raise BrokenPipeError("the scoring process has no pipe")
    return pipe
