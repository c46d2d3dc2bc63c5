"""What the simulated model says: the facts of the documents, in prose, with the numbers by which they are cited.

A pure function of the question, the documents and the seed, the same in every process: Python's own hashes are not
used, since they differ from one to the next.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from hashlib import blake2b
from itertools import chain
from random import Random

from service.ports import ChatMessage, Document

_SENTENCE_END = re.compile(r"(?<=[.!?])\s+")
_TERM = re.compile(r"[A-Za-z0-9][A-Za-z0-9-]{3,}")
_WORD = re.compile(r"\S+\s*")
_FACTS_PER_DOCUMENT, _FACT_CHARACTERS, _RESULT_CHARACTERS = 2, 400, 300

_OPENINGS = (
    "Here is what the records say.",
    "This is what the documents show.",
    "The documents that were found say the following.",
)
_CLOSINGS = (
    "That is all that the documents say about it.",
    "Nothing else in the documents bears on the question.",
    "The documents hold no more on this point.",
)
_GENERAL = (
    "No document was found for this question, so what follows is general.",
    "A first step is to write down what is known and who is responsible.",
    "The next one is to compare it with the rules that apply.",
    "What remains open should be put to somebody who may decide it.",
    "Each step should leave a trace, so that it can be followed later.",
    "The answer may change as soon as more is known.",
)


def generator(question: str, documents: Sequence[Document], seed: int) -> Random:
    """Return the source of chance for one answer."""
    told = json.dumps([seed, question, [[document.id, document.text] for document in documents]])
    return Random(int.from_bytes(blake2b(told.encode("utf-8", "replace"), digest_size=8).digest()))  # noqa: S311 - prose


def sentences(question: str, documents: Sequence[Document], chance: Random) -> list[str]:
    """Return an answer of at least two sentences; each that quotes the n-th document ends in [n]."""
    if found := facts(question, documents):
        return [chance.choice(_OPENINGS), *found, chance.choice(_CLOSINGS)]
    return [_GENERAL[0], *chance.sample(_GENERAL[1:], k=3)]


def facts(question: str, documents: Sequence[Document]) -> list[str]:
    """Return of each document the sentences nearest to the question, in the document's order, with their citation."""
    terms = {term.lower() for term in _TERM.findall(question)}
    return [
        f"{fact.rstrip('.!? ')} [{number}]."
        for number, document in enumerate(documents, 1)
        for fact in _nearest(document.text, terms)
    ]


def _nearest(text: str, terms: set[str]) -> list[str]:
    candidates = [" ".join(part.split())[:_FACT_CHARACTERS] for part in _SENTENCE_END.split(text) if part.strip()]
    by_nearness = sorted(
        range(len(candidates)), key=lambda i: (-len(terms & {t.lower() for t in _TERM.findall(candidates[i])}), i)
    )
    return [candidates[i] for i in sorted(by_nearness[:_FACTS_PER_DOCUMENT])]


def tool_sentence(messages: Sequence[ChatMessage]) -> str:
    """Return a sentence on the last tool result among `messages`."""
    result = next((message for message in reversed(messages) if message.role == "tool"), None)
    if result is None:
        return "The tool gave no result."
    calls = {call.id: call.name for message in messages for call in message.tool_calls}
    told = " ".join(_plain(result.content).split())[:_RESULT_CHARACTERS].rstrip(".!? ")
    return f"{calls.get(result.tool_call_id, 'The tool')} says: {told}."


def _plain(content: str) -> str:
    """Return JSON as words, other text as it is."""
    try:
        value = json.loads(content)
    except ValueError:
        return content
    return _words_of(value)


def _words_of(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {_words_of(inner)}" for key, inner in value.items())
    if isinstance(value, list):
        return ", ".join(_words_of(inner) for inner in value)
    return str(value)


def words(parts: Sequence[str]) -> list[str]:
    """Return sentences as tokens: each a word with the space after it."""
    return _WORD.findall("".join(f"{part} " for part in parts))


def endless(parts: Sequence[str], chance: Random) -> Iterator[str]:
    """Yield the tokens of `parts`, and of them again in changing order, without an end: for an answer of any length."""
    again = [words([part]) for part in parts]
    return chain(words(parts), chain.from_iterable(iter(lambda: chance.choice(again), None)))
