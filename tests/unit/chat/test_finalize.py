"""What counts as an answer, and what it cites."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.chat.steps.finalize import check, cited
from service.chat.steps.model_stream import Reply
from service.errors import ContentFiltered, InvalidAnswer, NoEvidence
from service.ports import Document

FOUND = [Document(name, name.title(), "text", "demo", frozenset()) for name in ("a", "b", "c")]


def reply(text, finish_reason="stop"):
    return Reply(text=text, finish_reason=finish_reason)


@pytest.mark.parametrize(
    ("text", "ids"),
    [
        ("As [1] says.", ("a",)),
        ("[2], then [1], then [2] again", ("b", "a")),
        ("[3][1]", ("c", "a")),
        ("[0] [4] [99] [999]", ()),
        ("[1000] [01] [ 1] [1 ] [-1] (1) 1]", ("a",)),
        ("[1", ()),
        ("", ()),
    ],
)
def test_citations_are_numbers_of_documents_that_were_found_in_the_order_of_their_first_mention(text, ids):
    assert cited(text, FOUND) == ids


@given(st.text())
def test_no_text_cites_what_was_not_found(text):
    assert cited(text, ()) == ()
    assert set(cited(text, FOUND)) <= {"a", "b", "c"}


def test_a_grounded_answer_needs_a_citation_and_another_does_not():
    assert check(reply("Well [2]."), FOUND, grounded=True).citations == ("b",)
    assert check(reply("Well."), FOUND, grounded=False).citations == ()
    with pytest.raises(NoEvidence):
        check(reply("Well."), FOUND, grounded=True)


@pytest.mark.parametrize("text", ["", " ", "\n\t", "\u00a0"])
def test_nothing_is_no_answer(text):
    with pytest.raises(InvalidAnswer):
        check(reply(text), FOUND, grounded=False)


def test_what_a_filter_withheld_is_no_answer_whatever_came_before():
    with pytest.raises(ContentFiltered):
        check(reply("Half [1]", "content_filter"), FOUND, grounded=False)


def test_an_answer_keeps_its_text_and_why_it_ended():
    answer = check(reply("  Well. \n", "length"), FOUND, grounded=False)
    assert (answer.text, answer.finish_reason) == ("  Well. \n", "length")
