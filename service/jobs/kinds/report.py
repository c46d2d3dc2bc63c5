"""report: documents analysed by the model, several at once, and one answer composed of it, with its sources.

At most four calls of the model: three groups of documents, then the whole.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

from pydantic import BaseModel, ConfigDict, StringConstraints

from service.errors import NoEvidence
from service.jobs.kind import Job, Kind, Step, StepUse
from service.ports import Document
from service.runtime.shelter import together

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

GROUPS = 3
GROUP = 3  # documents for one call
CALL = 120.0  # seconds: a local model takes its time for a long prompt

ANALYSE_TASK = "List what these documents say that helps to answer the question, and cite each of them. Question: "
COMPOSE_TASK = "Write a report that answers the question from the documents and from these notes on them."


class ReportInput(BaseModel):
    """What a client sends."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    question: Annotated[str, StringConstraints(min_length=1, max_length=32_000)]
    model: Annotated[str, StringConstraints(max_length=256)] = ""


async def report(job: Job, given: ReportInput) -> dict[str, Any]:
    """Gather the evidence, analyse it group by group, compose the answer."""
    found = await job.step(GATHER, given.question, share=0.1)
    asked = {"question": given.question, "model": given.model}
    groups = [found[start::GROUPS] for start in range(min(GROUPS, len(found)))]
    notes = await together(
        *(
            job.step(ANALYSE, {**asked, "documents": group}, part=str(number), share=0.6 / len(groups))
            for number, group in enumerate(groups, 1)
        )
    )
    best = {**asked, "documents": found, "notes": [note["text"] for note in notes]}
    whole = await job.step(COMPOSE, best, share=0.3)
    return {
        "question": given.question,
        "answer": whole["text"],
        "citations": whole["citations"],
        "documents": [{"id": one["id"], "title": one["title"]} for one in found],
        "notes": notes,
    }


async def _gather(use: StepUse, question: str) -> list[dict[str, Any]]:
    policy = use.means.policy
    scope = await policy.scope(use.principal)
    found = await use.means.retriever.query(question, scope, GROUPS * GROUP)
    readable = [document for document in found if policy.may_read(use.principal, document)]
    if not readable:
        raise NoEvidence
    return [
        {"id": one.id, "title": one.title, "text": one.text, "labels": sorted(one.labels), "score": one.score}
        for one in readable
    ]


async def _analyse(use: StepUse, given: Mapping[str, Any]) -> dict[str, Any]:
    return await _ask(use, given, ANALYSE_TASK + given["question"])


async def _compose(use: StepUse, given: Mapping[str, Any]) -> dict[str, Any]:
    notes = "\n\n".join(given["notes"])
    return await _ask(use, given, f"{COMPOSE_TASK}\n\nNotes:\n{notes}\n\nQuestion: {given['question']}")


async def _ask(use: StepUse, given: Mapping[str, Any], question: str) -> dict[str, Any]:
    documents = _documents(use.principal.tenant, given["documents"])
    completion = await use.means.complete(use.principal, given["model"], question, documents)
    return {"text": completion.text, "citations": list(completion.citations)}


def _documents(tenant: str, given: Sequence[Mapping[str, Any]]) -> list[Document]:
    return [Document(g["id"], g["title"], g["text"], tenant, frozenset(g["labels"]), g["score"]) for g in given]


GATHER = Step("gather", _gather, budget=10.0)
ANALYSE = Step("analyse", _analyse, budget=CALL)
COMPOSE = Step("compose", _compose, budget=CALL)

REPORT = Kind("report", ReportInput, report, total=900.0, concurrency=4)
