"""Turns a question into a full-text expression that can hold no syntax of the user's: called by `index`."""

from __future__ import annotations

import re
import string

MOST_TERMS = 32
"""Terms taken from one question. The longest message has 32,000 characters; a query over all of it would take long."""

LONGEST_TERM = 64
"""Characters of a term that are looked up."""

# The words of English that a question is made of and that tell nothing of what it is about.
_STOP_WORDS = """
a about all also an and any are as at be been but by can could did do does for from had has have how i if in into is it
its me my need needed no not of on or our please should so tell than that the their them then there these they this
those to was we were what when where whether which who why will with would you your
"""
STOP_WORDS = frozenset(_STOP_WORDS.split())

# FTS5 reads its expression as a C string and a quote ends a phrase: neither may come from the user.
_SEPARATORS = re.compile(r'[\s"\x00-\x1f\x7f\ud800-\udfff]+')


def terms(question: str) -> tuple[str, ...]:
    """Return the distinct words of `question` that say what it is about, in lower case, in order."""
    words = (word.strip(string.punctuation)[:LONGEST_TERM] for word in _SEPARATORS.split(question.lower()))
    kept = dict.fromkeys(word for word in words if word and word not in STOP_WORDS)
    return tuple(kept)[:MOST_TERMS]


def expression(question: str) -> str:
    """Return an FTS5 expression that matches a passage with any of the terms; empty if there is none.

    Each term is a quoted phrase, so `NEAR`, `tenant:x`, `*` and `^` are words like others, and `C-1042` is two
    neighbouring tokens (https://www.sqlite.org/fts5.html, section 3.1).
    """
    return " OR ".join(f'"{term}"' for term in terms(question))
