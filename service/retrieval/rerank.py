"""`ports.Reranker`: the scoring of `scoring` in child processes, so that CPU work never stands in the event loop's way.

Built by the composition root, called by the flow's rerank step. A child whose caller left or ran out of time is killed
at once and replaced; it has no state to lose.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from service.errors import RetrievalFailed
from service.ports import Document
from service.retrieval import scoring
from service.retrieval.terms import terms
from service.runtime.child import Child
from service.runtime.lending import Lending


def _child() -> Child:
    return Child("-I", "-S", scoring.__file__)


class ProcessReranker:
    """Reranks in `workers` processes: as many at once, the next one waits for its turn."""

    def __init__(self, *, workers: int = 1) -> None:
        self.workers = workers
        self._processes = Lending(_child, size=workers, name="rerank", refusal=RetrievalFailed)

    async def warm(self) -> None:
        """Start every process and see it answer, so that no request waits for a start; raise RetrievalFailed."""
        try:
            await self._processes.open()
            await self._processes.use(lambda process: process.ask(["ready", ["ready"]]))
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
            scores: list[float] = await self._processes.use(lambda process: process.ask([asked, passages]))
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
