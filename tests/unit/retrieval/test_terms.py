"""From a question to a full-text expression."""

from __future__ import annotations

import sqlite3

from hypothesis import example, given
from hypothesis import strategies as st

from service.retrieval.terms import LONGEST_TERM, MOST_TERMS, expression, terms


def test_empty_words_are_dropped_and_the_rest_kept_in_order():
    assert terms("Please tell me whether the case C-1042 is in need of a review.") == ("case", "c-1042", "review")


def test_a_word_counts_once():
    assert terms("Review, review! REVIEW?") == ("review",)


def test_a_question_without_a_telling_word_has_no_expression():
    assert expression("What is it about?") == ""
    assert expression(" \n\t ") == ""


def test_operators_become_plain_words():
    assert expression('NEAR("a b", 2) OR tenant:* ^x') == '"near" OR "b" OR "2" OR "tenant" OR "x"'


def test_a_very_long_question_is_cut():
    found = terms(" ".join(f"word{n}" for n in range(10_000)) + "x" * 10_000)
    assert len(found) == MOST_TERMS
    assert len(terms("y" * 10_000)[0]) == LONGEST_TERM


@given(st.text(max_size=200))
@example('" OR tenant:*')
@example("a\x00b")
@example("\ud800 lone")
@example("🎉 ² ﷽ \u0301 हिन्दी 漢字")
def test_no_text_is_ever_a_syntax_error(question):
    database = sqlite3.connect(":memory:")
    try:
        database.execute("CREATE VIRTUAL TABLE passages USING fts5 (title, text)")
        if wanted := expression(question):
            database.execute("SELECT rowid FROM passages WHERE passages MATCH ?", (wanted,)).fetchall()
    finally:
        database.close()
