"""document_ingestion: texts become passages in the index, in batches, each of them a checkpoint.

A passage is known by the content of its document, so that the same document, or the same batch after a crash, is
written once.
"""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from service.errors import Forbidden
from service.jobs.kind import Job, Kind, Step, StepUse
from service.ports import Document

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

PASSAGE = 1_200  # characters: some 300 tokens, a few of which fit any model's prompt
BATCH = 50  # passages for one transaction of the index
ID_DIGITS = 16  # of a SHA-256, in hexadecimal

Label = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9._:-]{1,64}$")]


class NewDocument(BaseModel):
    """A text to be found later. A caller who may not read one of the labels may not give it either."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    title: Annotated[str, StringConstraints(min_length=1, max_length=300)]
    text: Annotated[str, StringConstraints(min_length=1, max_length=1_000_000)]
    labels: Annotated[tuple[Label, ...], Field(max_length=16)] = ()


class Ingestion(BaseModel):
    """What a client sends."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    documents: Annotated[tuple[NewDocument, ...], Field(min_length=1, max_length=1_000)]


async def ingest(job: Job, given: Ingestion) -> dict[str, Any]:
    """Check the labels, then write batch after batch."""
    await job.step(CHECK, sorted({label for document in given.documents for label in document.labels}), share=0.02)
    documents = tuple(dict.fromkeys(given.documents))
    size = sum(len(document.text) for document in documents)
    written, told = 0, []
    for document in documents:
        name = _id(document)
        passages = [
            {"id": f"{name}-{number}", "title": document.title, "text": text, "labels": document.labels}
            for number, text in enumerate(split(document.text), 1)
        ]
        for start in range(0, len(passages), BATCH):
            batch = passages[start : start + BATCH]
            share = 0.98 * sum(len(passage["text"]) for passage in batch) / size
            written += await job.step(INDEX, batch, part=f"{name}-{start // BATCH + 1}", share=share)
        told.append({"id": name, "title": document.title, "passages": len(passages)})
    return {"documents": told, "passages": sum(one["passages"] for one in told), "written": written}


def split(text: str) -> Iterator[str]:
    """Yield `text` in pieces of at most `PASSAGE` characters, ended at a paragraph, sentence or word if possible."""
    start = 0
    while start < len(text):
        end = start + PASSAGE
        if end < len(text):
            end = _break(text, start, end)
        if piece := text[start:end].strip():
            yield piece
        start = end


def _break(text: str, start: int, end: int) -> int:
    """Return where to end a piece: not before its half, or a text of one long word would never end."""
    for mark in ("\n\n", ". ", " "):
        found = text.rfind(mark, start + PASSAGE // 2, end)
        if found != -1:
            return found + len(mark)
    return end


async def _check(use: StepUse, labels: Sequence[str]) -> None:
    scope = await use.means.policy.scope(use.principal)
    if unknown := [label for label in labels if label not in scope.labels]:
        raise Forbidden(f"labels: {', '.join(unknown)} are not yours to give")


async def _index(use: StepUse, batch: Sequence[dict[str, Any]]) -> int:
    tenant = use.principal.tenant
    documents = [
        Document(one["id"], one["title"], one["text"], tenant, labels=frozenset(one["labels"])) for one in batch
    ]
    return await use.means.index.add_documents(tenant, documents)


def _id(document: NewDocument) -> str:
    content = json.dumps([document.title, document.text, sorted(document.labels)])
    return hashlib.sha256(content.encode("utf-8", "surrogatepass")).hexdigest()[:ID_DIGITS]


CHECK = Step("check", _check, budget=5.0)
INDEX = Step("index", _index, budget=30.0)

DOCUMENT_INGESTION = Kind("document_ingestion", Ingestion, ingest, total=1800.0, concurrency=2)
