"""The pure parts of the kinds of job: how texts are cut, and what is asked of whom."""

import string

from hypothesis import given
from hypothesis import strategies as some

from service.jobs.kinds.document_ingestion import PASSAGE, split

TEXTS = some.text(string.ascii_lowercase + "  .\n", max_size=6000)


def squeezed(text):
    return "".join(text.split())


@given(TEXTS)
def test_a_split_text_is_whole_and_no_piece_is_longer_than_a_passage(text):
    pieces = list(split(text))
    assert all(0 < len(piece) <= PASSAGE for piece in pieces)
    assert squeezed("".join(pieces)) == squeezed(text)


def test_a_text_is_cut_after_a_paragraph_rather_than_a_sentence_rather_than_a_word():
    paragraph, sentence = "a" * 700 + "\n\n", "b" * 300 + ". "
    assert next(split(paragraph + sentence + "c " * 400)) == "a" * 700
    assert next(split("d" * 650 + ". " + "e " * 600)) == "d" * 650 + "."
    assert next(split("f" * 650 + " " + "g" * 600)) == "f" * 650


def test_one_endless_word_is_cut_all_the_same():
    assert [len(piece) for piece in split("x" * (2 * PASSAGE + 7))] == [PASSAGE, PASSAGE, 7]


def test_blank_text_has_no_passage():
    assert list(split(" \n " * 1000)) == []
