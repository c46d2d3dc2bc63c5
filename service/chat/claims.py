"""A check of finished answers: no claim of a change that no tool has made. One of `Parts.checks`, called by finalize.

A model that says "I have opened a review" and has not is worse than one that says nothing: somebody relies on it. The
check knows the changes of the case assistant by their words, sentence by sentence. A sentence that cites a document
reports what stands there, and one that denies, asks or supposes claims nothing.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass

UNFOUNDED = "The answer claims a change that was not made"

_SENTENCE = re.compile(r"[^.!?\n]+(?:[.!?](?!\s|$)[^.!?\n]*)*[.!?]?")
_NO_CLAIM = re.compile(
    r"\[\d{1,3}\]|\?|\b(?:not|no|never|nobody|none|without|if|when|whenever|once|until|unless|before|would|should|may|must|"
    r"can|could|will|to be)\b|n't\b",
    re.IGNORECASE,
)
_ADVERB = r"(?:\s+(?:now|just|already|also|hereby|successfully))"
_BY_US = rf"\b(?:I|we)(?:'ve|\s+have|\s+had)?{_ADVERB}*\s+(?:{{verbs}})\b"
_DONE = rf"\b(?:(?:has|have){_ADVERB}*\s+been{_ADVERB}*|(?:is|are|was|were){_ADVERB}+)\s+(?:{{verbs}})\b"
_ABOUT = re.compile("status|review|escalation", re.IGNORECASE)  # most sentences are about something else
_CHANGE = "changed|set|updated|moved|closed|reopened|switched"
_REFER = "opened|escalated|referred|submitted|initiated|started|requested|filed"
_NEAR = r"[^.!?\n]{0,80}"


@dataclass(frozen=True, slots=True)
class _Change:
    """A kind of change: how it is claimed, and by which tools it can be made."""

    claims: tuple[re.Pattern[str], ...]
    tools: frozenset[str]


def _claims(verbs: str, things: str) -> tuple[re.Pattern[str], ...]:
    thing = rf"\b(?:{things})\b"
    patterns = (_BY_US.format(verbs=verbs) + _NEAR + thing, thing + _NEAR + _DONE.format(verbs=verbs))
    return tuple(re.compile(pattern, re.IGNORECASE) for pattern in patterns)


_CHANGES = (
    _Change(_claims(_CHANGE, "status"), frozenset()),  # no tool that ships makes it
    _Change(_claims(_REFER, "reviews?|escalations?"), frozenset({"open_escalation_review"})),
)


def unfounded_claim(text: str, acted: Collection[str]) -> str | None:
    """Return what is wrong with an answer that claims a change, None if nothing is.

    Args:
        text: the whole answer.
        acted: the names of the tools with side effects that were completed in this turn.
    """
    for sentence in _SENTENCE.findall(text):
        if not _ABOUT.search(sentence) or _NO_CLAIM.search(sentence):
            continue
        for change in _CHANGES:
            if not change.tools & set(acted) and any(claim.search(sentence) for claim in change.claims):
                return UNFOUNDED
    return None
