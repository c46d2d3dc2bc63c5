"""The scoring as a pure function."""

from __future__ import annotations

import subprocess
import sys

from hypothesis import given
from hypothesis import strategies as st

from service.retrieval import scoring
from service.retrieval.scoring import score
from tests.support import PATIENCE


def best(question, *passages):
    scores = score(question, passages)
    return passages[scores.index(max(scores))]


def test_a_passage_with_more_of_the_terms_is_better():
    assert best("risk score threshold", "the risk of rain", "the risk score has a threshold") == (
        "the risk score has a threshold"
    )


def test_a_rare_term_outweighs_a_common_one():
    passages = ("review of the case", "review of a file", "review of a letter", "C-1042 was closed")
    assert best("C-1042 review", *passages) == "C-1042 was closed"


def test_terms_that_stand_together_are_better_than_scattered_ones():
    near = "an escalation review was opened last week by the panel in town"
    far = "an escalation was opened last week by the panel in town review"
    assert best("escalation review", far, near) == near


def test_another_form_of_a_word_still_counts():
    assert best("summarising", "a summary of summaries", "an unrelated paragraph") == "a summary of summaries"


def test_nothing_asked_or_nothing_to_read_scores_nothing():
    assert score("", ["some text"])[0] < 0.05
    assert score("risk", [""])[0] < 0.05
    assert score("risk", []) == []


@given(st.text(max_size=80), st.lists(st.text(max_size=200), max_size=6))
def test_every_score_is_a_share_and_depends_on_the_input_alone(question, passages):
    scores = score(question, passages)
    assert len(scores) == len(passages)
    assert all(0.0 <= value <= 1.0 for value in scores)
    assert scores == score(question, passages)


def test_the_child_loads_the_standard_library_only():
    # -I -S hides site-packages: an import of anything else would fail.
    done = subprocess.run(
        [sys.executable, "-I", "-S", scoring.__file__],
        input='["risk", ["risk"]]\n',
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert done.stderr == ""
    assert done.returncode == 0
