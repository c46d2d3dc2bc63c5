"""finalize: what must hold before an answer may be called complete."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from service.errors import ContentFiltered, InvalidAnswer, NoEvidence

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from service.chat.parts import Check
    from service.chat.steps.model_stream import Reply
    from service.ports import Document

_MARK = re.compile(r"\[(\d{1,3})\]")  # [1] cites the first document of the prompt


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer that was validated. `citations` are ids of documents, in the order of their first mention."""

    text: str
    finish_reason: str
    citations: tuple[str, ...]


def check(
    reply: Reply,
    documents: Sequence[Document],
    *,
    grounded: bool,
    checks: Sequence[Check] = (),
    acted: Collection[str] = (),
) -> Answer:
    """Return the reply as an answer.

    Args:
        reply: the whole of what the model said.
        documents: those that it was given.
        grounded: it must cite one of them.
        checks: each returns what is wrong with a text, or None.
        acted: the tools with side effects that were completed, for the checks.

    Raises:
        ContentFiltered: the provider withheld it.
        InvalidAnswer: it is empty, or a check objects.
        NoEvidence: it must be grounded, and cites nothing.
    """
    if reply.finish_reason == "content_filter":
        raise ContentFiltered
    if not reply.text.strip() and not reply.tool_calls:
        raise InvalidAnswer("The model gave an empty answer")
    for objects in checks:
        if (problem := objects(reply.text, acted)) is not None:
            raise InvalidAnswer(problem)
    citations = cited(reply.text, documents)
    if grounded and not citations:
        raise NoEvidence("The answer cites none of the documents that were found")
    return Answer(reply.text, reply.finish_reason, citations)


def cited(text: str, documents: Sequence[Document]) -> tuple[str, ...]:
    """Return the ids of the documents that `text` cites as [n], each once."""
    numbers = (int(mark) for mark in _MARK.findall(text))
    return tuple(dict.fromkeys(documents[n - 1].id for n in numbers if 1 <= n <= len(documents)))
