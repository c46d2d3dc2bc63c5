"""finalize: what must hold before an answer may be called complete."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from service.errors import ContentFiltered, InvalidAnswer, NoEvidence

if TYPE_CHECKING:
    from collections.abc import Sequence

    from service.chat.steps.model_stream import Reply
    from service.ports import Document

_MARK = re.compile(r"\[(\d{1,3})\]")  # [1] cites the first document of the prompt


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer that was validated. `citations` are ids of documents, in the order of their first mention."""

    text: str
    finish_reason: str
    citations: tuple[str, ...]


def check(reply: Reply, documents: Sequence[Document], *, grounded: bool) -> Answer:
    """Return the reply as an answer; raise ContentFiltered, InvalidAnswer or, when it must be grounded, NoEvidence."""
    if reply.finish_reason == "content_filter":
        raise ContentFiltered
    if not reply.text.strip() and not reply.tool_calls:
        raise InvalidAnswer("The model gave an empty answer")
    citations = cited(reply.text, documents)
    if grounded and not citations:
        raise NoEvidence("The answer cites none of the documents that were found")
    return Answer(reply.text, reply.finish_reason, citations)


def cited(text: str, documents: Sequence[Document]) -> tuple[str, ...]:
    """Return the ids of the documents that `text` cites as [n], each once."""
    numbers = (int(mark) for mark in _MARK.findall(text))
    return tuple(dict.fromkeys(documents[n - 1].id for n in numbers if 1 <= n <= len(documents)))
