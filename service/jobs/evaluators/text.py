"""An answer taken apart for the evaluators: its claims, what each cites, and the words that carry its meaning.

Everything is cut before it is read, and every pattern goes over a text once, so that no answer and no document, whoever
wrote it, keeps the event loop.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

LONGEST = 16_000
"""Characters of an answer that are judged: some 4,000 tokens."""

LONGEST_SOURCE, ALL_SOURCES = 8_000, 32_000
"""Characters that are read of one passage, as the reranker does, and of all of them together; the same of results."""

FEWEST_WORDS = 3
"""A sentence with fewer words of meaning ("Here it is:") claims nothing that could be held against a source."""

# An end of a sentence: its marks, what closes behind them, and the citations that follow. It begins where such a run
# begins, and nothing in it is given back: a text of marks alone would be read once for each of them.
_END = re.compile(
    r"(?<![.!?…])[.!?…]++[\"'”’)\]]*+(?:[ \t]?\[\d{1,3}\])*+(?=\s|$)|[。！？]++(?:[ \t]?\[\d{1,3}\])*+|\n++"  # noqa: RUF001 -- of CJK
)
_MARK = re.compile(r"\[(\d{1,3})\]")  # as finalize reads it
_LISTED = re.compile(r"^\s{0,8}(?:[-*•>#]{1,6}|\d{1,3}[.)])\s")
_WORD = re.compile(r"[^\W_]++(?:[-'’][^\W_]++|(?<=\d)[.,](?=\d)[^\W_]++)*+")  # noqa: RUF001 -- an apostrophe

# English words that say nothing of what a sentence is about.
_STOP_WORDS = frozenset(
    [
        "a",
        "about",
        "after",
        "all",
        "also",
        "an",
        "and",
        "any",
        "are",
        "as",
        "at",
        "be",
        "because",
        "been",
        "before",
        "being",
        "but",
        "by",
        "can",
        "could",
        "did",
        "do",
        "does",
        "each",
        "for",
        "from",
        "had",
        "has",
        "have",
        "he",
        "her",
        "here",
        "his",
        "how",
        "i",
        "if",
        "in",
        "into",
        "is",
        "it",
        "its",
        "may",
        "me",
        "more",
        "most",
        "must",
        "my",
        "no",
        "not",
        "of",
        "on",
        "only",
        "or",
        "other",
        "our",
        "she",
        "should",
        "so",
        "some",
        "such",
        "than",
        "that",
        "the",
        "their",
        "them",
        "then",
        "there",
        "these",
        "they",
        "this",
        "those",
        "to",
        "was",
        "we",
        "were",
        "what",
        "when",
        "where",
        "which",
        "while",
        "who",
        "will",
        "with",
        "would",
        "you",
        "your",
    ]
)

Words = frozenset[str]


@dataclass(frozen=True, slots=True)
class Claim:
    """A sentence that says something. `cites` are the numbers of the passages that it names."""

    words: Words
    cites: tuple[int, ...]


def claims(answer: str) -> list[Claim]:
    """Return the sentences of `answer` that claim something: no questions, headings or scraps, and none of JSON."""
    found = []
    for sentence in _sentences(_prose(answer)):
        said = _LISTED.sub("", _MARK.sub(" ", sentence)).strip()
        known = words(said)
        if len(known) >= FEWEST_WORDS and not said.endswith(("?", "？", ":")):  # noqa: RUF001 -- of CJK
            found.append(Claim(known, marks(sentence)))
    return found


def marks(text: str) -> tuple[int, ...]:
    """Return the numbers that `text` cites as [n], each once, in order."""
    return tuple(dict.fromkeys(int(number) for number in _MARK.findall(_prose(text))))


def read(sources: Iterable[str | None]) -> list[Words | None]:
    """Return the words of each source, None for what is lost or comes after so many that nobody reads on."""
    found: list[Words | None] = []
    left = ALL_SOURCES
    for source in sources:
        text = None if source is None or left <= 0 else source[: min(LONGEST_SOURCE, left)]
        found.append(None if text is None else words(text))
        left -= len(text or "")
    return found


def words(text: str) -> Words:
    """Return the words of `text` that carry meaning, without case and plural, numbers as they are written."""
    plain = unicodedata.normalize("NFC", text[:LONGEST]).lower()  # casefold() makes three of one
    return frozenset(_singular(word) for word in _WORD.findall(plain) if word not in _STOP_WORDS)


def numbers(known: Words) -> Words:
    """Return those of `known` that have a digit: amounts, dates, identifiers."""
    return frozenset(word for word in known if any(map(str.isdigit, word)))


def _prose(text: str) -> str:
    """Return what is judged of an answer: nothing of a JSON object, in which [1] is a list and no citation."""
    return "" if text.lstrip().startswith("{") else text[:LONGEST]


def _sentences(text: str) -> Iterator[str]:
    start = 0
    for end in _END.finditer(text):
        yield text[start : end.end()]
        start = end.end()
    yield text[start:]


def _singular(word: str) -> str:
    """Take off a plural's ending: the S stemmer of Harman, "How effective is suffixing?", 1991, table 1."""
    if word.endswith("ies") and not word.endswith(("eies", "aies")):
        return word[:-3] + "y"
    if word.endswith("es") and not word.endswith(("aes", "ees", "oes")):
        return word[:-1]
    if word.endswith("s") and not word.endswith(("us", "ss")):
        return word[:-1]
    return word
