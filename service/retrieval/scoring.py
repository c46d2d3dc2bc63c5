"""How well does a passage answer a question? A pure function, and the child process in which it runs.

Run as a script by `rerank`, by its path and in Python's isolated mode: it imports nothing but the standard library, so
a child starts in some 30 ms and takes some 10 MB, whatever the service itself has loaded.

A score is the weighted sum of three signals, each from 0 to 1:

* coverage: the share of the question's terms that the passage has, each weighted by its inverse document frequency
  among the passages, ln(1 + (N - n + 0.5) / (n + 0.5)) (Robertson and Zaragoza, "The Probabilistic Relevance
  Framework: BM25 and Beyond", 2009, section 3.1; the 1 keeps it positive, as in Lucene);
* proximity: how close together they stand: the number of distinct terms found, divided by the length of the shortest
  window that holds them all (the cover of Clarke, Cormack and Tudhope, "Relevance ranking for one to three term
  queries", 2000), times the share of terms found, or two neighbours would beat three that are scattered;
* likeness: the cosine of character trigrams (Damashek, "Gauging Similarity with n-Grams", 1995), which forgives
  inflections and misspellings.
"""

from __future__ import annotations

import json
import math
import os
import queue
import re
import sys
import threading
from collections import Counter
from collections.abc import Sequence
from collections.abc import Set as AbstractSet

COVERAGE, PROXIMITY, LIKENESS = 0.6, 0.15, 0.25
"""The weights. Coverage leads; the other two decide between passages that cover alike."""

LONGEST_PASSAGE = 8_000
"""Characters of a passage, and of the question, that are read: bounds the work."""

_WORD = re.compile(r"[^\W_]+(?:-[^\W_]+)*")  # C-1042 is one word


def score(question: str, passages: Sequence[str]) -> list[float]:
    """Return a score from 0 to 1 for each of `passages`, higher for better. The same input gives the same output."""
    asked = _words(question)
    texts = [_words(passage) for passage in passages]
    weights = _weights(set(asked), texts)
    grams = _trigrams(asked)
    return [
        round(
            COVERAGE * _coverage(weights, words)
            + PROXIMITY * _proximity(weights.keys(), words)
            + LIKENESS * _cosine(grams, _trigrams(words)),
            6,
        )
        for words in texts
    ]


def _words(text: str) -> list[str]:
    return _WORD.findall(text[:LONGEST_PASSAGE].casefold())


def _weights(terms: set[str], texts: Sequence[Sequence[str]]) -> dict[str, float]:
    seen = Counter(word for words in texts for word in terms.intersection(words))
    return {term: math.log(1 + (len(texts) - seen[term] + 0.5) / (seen[term] + 0.5)) for term in sorted(terms)}


def _coverage(weights: dict[str, float], words: Sequence[str]) -> float:
    total = sum(weights.values())
    return sum(weights[term] for term in sorted(weights.keys() & set(words))) / total if total else 0.0


def _proximity(terms: AbstractSet[str], words: Sequence[str]) -> float:
    """Return how tightly, and how many of, `terms` stand together; one alone is near nothing."""
    hits = [(place, word) for place, word in enumerate(words) if word in terms]
    distinct = len({word for _, word in hits})
    if distinct < 2:  # noqa: PLR2004 - nearness takes two
        return 0.0
    shortest, inside, first = len(words), Counter[str](), 0
    for place, word in hits:
        inside[word] += 1
        while inside[hits[first][1]] > 1:
            inside[hits[first][1]] -= 1
            first += 1
        if len(inside) == distinct:
            shortest = min(shortest, place - hits[first][0] + 1)
    return distinct / shortest * distinct / len(terms)


def _trigrams(words: Sequence[str]) -> Counter[str]:
    text = f" {' '.join(words)} "
    return Counter(text[start : start + 3] for start in range(len(text) - 2))


def _cosine(one: Counter[str], other: Counter[str]) -> float:
    length = math.sqrt(sum(n * n for n in one.values()) * sum(n * n for n in other.values()))
    return sum(n * other[gram] for gram, n in one.items()) / length if length else 0.0


# --- the child process --------------------------------------------------------------------------------------------


def serve() -> None:
    """Answer lines of JSON, `[question, passages]`, with lines of JSON, the scores, until the input ends.

    The input ends when the parent closes it or dies, by SIGKILL too. A thread of its own waits for that, so the process
    ends even in the middle of a passage that takes for ever.
    """
    lines: queue.SimpleQueue[str] = queue.SimpleQueue()
    threading.Thread(target=_read, args=(lines,), daemon=True).start()
    while True:
        question, passages = json.loads(lines.get())
        sys.stdout.write(json.dumps(score(question, passages)) + "\n")
        sys.stdout.flush()


def _read(lines: queue.SimpleQueue[str]) -> None:
    for line in sys.stdin:
        lines.put(line)
    os._exit(0)  # nothing to save, and the other thread may be computing


if __name__ == "__main__":
    serve()
