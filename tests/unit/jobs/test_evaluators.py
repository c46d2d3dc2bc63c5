"""What each evaluator says of an answer, and that no text, whoever wrote it, takes it long or brings it down."""

import sys
import time
import tracemalloc

import pytest
from hypothesis import example, given
from hypothesis import strategies as some

from service.chat.steps.finalize import cited
from service.jobs.evaluators import EVALUATORS, citation, grounding
from service.jobs.evaluators.evaluator import Exchange, Score
from service.jobs.evaluators.text import (
    _END,
    _LISTED,
    _MARK,
    _WORD,
    ALL_SOURCES,
    LONGEST,
    LONGEST_SOURCE,
    claims,
    marks,
    read,
    words,
)
from service.ports import Document

FIRE = "The warehouse in Delft burned down on 3 March 2024. The insurer paid 12,500 euros for damaged heaters."
FLOOD = "A flood closed the harbour office of Rotterdam for two weeks; nobody was injured."
NONE = Score(None, "not_applicable")


def exchange(answer, *passages, question="What happened?", results=()):
    return Exchange(question, answer, passages, results)


# --- sentences ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answer", "cites"),
    [
        ("The warehouse burned down [1]. The insurer paid later [2].", [(1,), (2,)]),
        ("The warehouse burned down.[1] The insurer paid later. [2]", [(1,), (2,)]),
        ("The warehouse burned down [1][2]. The insurer paid later.", [(1, 2), ()]),
        ('He said "the warehouse burned down." [3] The insurer paid later!', [(3,), ()]),
        ("The rate was 3.5 per cent of example.com revenue [1].", [(1,)]),
        ("- The warehouse burned down [1]\n- The insurer paid later [2]", [(1,), (2,)]),
        ("1. The warehouse burned down [1]\n2. The insurer paid later", [(1,), ()]),
        ("Did the warehouse burn down?\nThe following documents say:\nHere it is.\n## Yes", []),
        ("倉庫は 全焼 した 昨日 [1]。保険 会社 は 支払う [2]。", [(1,), (2,)]),
        ("", []),
        ("...", []),
    ],
)
def test_a_claim_has_the_citations_that_stand_in_it_or_right_behind_it(answer, cites):
    assert [claim.cites for claim in claims(answer)] == cites


def test_a_word_is_known_without_case_plural_and_the_way_its_accents_are_encoded():
    assert words("The Reviews of Café policies, C-1042 (12,500.50)") == words(
        "review cafe\u0301 policy c-1042 12,500.50"
    )
    assert words("and the of it") == frozenset()


# --- citation -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answer", "score"),
    [
        ("The warehouse burned down [1]. A flood closed the harbour [2].", Score(1.0, "pass")),
        ("The warehouse burned down [1]. A flood closed the harbour.", Score(0.5, "pass")),
        (
            "The warehouse burned down. A flood closed the harbour. The harbour office closed [1].",
            Score(0.3333, "fail"),
        ),
        ("The warehouse burned down [1]. A flood closed the harbour [3].", Score(0.5, "fail")),
        ("The warehouse burned down [0].", Score(0.0, "fail")),
        ("Yes [9].", Score(0.0, "fail")),
        ("The warehouse burned down.", Score(0.0, "fail")),
        ("Yes.", NONE),
    ],
)
def test_citation_is_the_share_of_claims_that_cite_and_one_of_nothing_fails(answer, score):
    assert citation.judge(exchange(answer, FIRE, FLOOD)) == score


def test_citation_is_not_applicable_where_nothing_could_be_cited():
    assert citation.judge(Exchange("?", "The warehouse burned down [1].")) == NONE  # it never searched
    assert citation.judge(exchange("The warehouse burned down.")) == NONE  # it found nothing
    assert citation.judge(exchange("The warehouse burned down [1].")) == Score(0.0, "fail")  # and cites all the same


def test_a_structured_answer_has_no_sentences_and_its_lists_are_no_citations():
    turn = exchange(' {"status": "the warehouse burned down", "reasons": [7], "when": [1]}', FIRE)
    assert [evaluator.judge(turn) for evaluator in EVALUATORS] == [NONE, NONE]


def test_a_passage_that_cannot_be_read_any_more_was_given_all_the_same():
    assert citation.judge(exchange("The warehouse burned down [1].", None)) == Score(1.0, "pass")


@given(some.text(alphabet="ab []0123456789", max_size=60))
@example("[1][01][001][0001]")
def test_citations_are_read_as_the_turn_reads_them(answer):
    documents = [Document(str(n), "", "", "t", frozenset()) for n in range(1, 4)]
    assert cited(answer, documents) == tuple(str(n) for n in marks(answer) if 1 <= n <= 3)


# --- grounding ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answer", "score"),
    [
        ("The warehouse burned down on 3 March 2024 [1].", Score(1.0, "pass")),
        ("On 3 March 2024 a warehouse in Delft burned to the ground [1].", Score(1.0, "pass")),
        ("The insurer paid 21,500 euros for the damaged heaters [1].", Score(0.0, "fail")),  # the number is another
        ("The warehouse burned down on 3 March 2024 [2].", Score(0.0, "fail")),  # it stands in the other one
        ("The warehouse burned down on 3 March 2024 [9].", Score(0.0, "fail")),  # there is none such
        ("The warehouse burned down on 3 March 2024.", Score(1.0, "pass")),  # nothing cited: anywhere will do
        ("Purple elephants dance beneath crystal chandeliers.", Score(0.0, "fail")),
        ("The warehouse in Delft burned down [1]. Purple elephants dance elsewhere.", Score(0.5, "fail")),
        ("Yes.", NONE),
    ],
)
def test_grounding_is_the_share_of_claims_whose_words_and_numbers_their_sources_have(answer, score):
    assert grounding.judge(exchange(answer, FIRE, FLOOD)) == score


def test_a_number_of_the_question_is_nobodys_invention():
    answer = "The warehouse in Delft of case C-77 burned down [1]."
    assert grounding.judge(exchange(answer, FIRE)) == Score(0.0, "fail")
    assert grounding.judge(exchange(answer, FIRE, question="What of C-77?")) == Score(1.0, "pass")


def test_what_a_tool_has_answered_supports_a_claim_beside_its_citation():
    answer = "The warehouse case is open since Tuesday [1]."
    assert grounding.judge(exchange(answer, FIRE)).label == "fail"
    result = '{"case": {"status": "open", "since": "Tuesday"}}'
    assert grounding.judge(exchange(answer, FIRE, results=(result,))) == Score(1.0, "pass")
    assert grounding.judge(Exchange("?", "The case is open since Tuesday.", None, (result,))) == Score(1.0, "pass")


def test_of_what_rests_on_a_lost_passage_nothing_is_said():
    both = "The warehouse in Delft burned down [1]. A flood closed the harbour [2]."
    assert grounding.judge(exchange(both, FIRE, None)) == Score(1.0, "pass")
    assert grounding.judge(exchange(both, None, None)) == NONE
    assert grounding.judge(exchange("A flood closed the harbour [2].", FIRE, None)) == NONE
    assert grounding.judge(Exchange("?", both)) == NONE


def test_what_it_cannot_see_is_what_it_says_it_cannot_see():
    """The limits that its docstring names, held here so that nobody takes the score for more than it is."""
    assert grounding.judge(exchange("The warehouse in Delft never burned down [1].", FIRE)).label == "pass"
    assert grounding.judge(exchange("Flames consumed the storehouse [1].", FIRE)).label == "fail"


# --- whatever comes -------------------------------------------------------------------------------------------------

ANYTHING = some.text(max_size=400) | some.text(alphabet="ab12.!? \n[]\"')。", max_size=400)
NASTY = [
    ".", "!?", "[1]", "[", "]", "[1", "1.", "1,", "a-", "' ", '."', ".)", ". ", ".\n", "\n", "- ", "#", " ", "\t", "\0",
    "。", "ﷺ", "ΐ", "é", "e\u0301", "\u0301", "\u200d", "🜚", "\ud800", "a b c[1][2]. ", "x" * 99 + " ",
]  # fmt: skip


@given(
    ANYTHING, ANYTHING, some.none() | some.lists(some.none() | ANYTHING, max_size=4), some.lists(ANYTHING, max_size=2)
)
def test_any_exchange_has_a_score_from_0_to_1_or_none_the_same_each_time(question, answer, passages, results):
    turn = Exchange(question, answer, None if passages is None else tuple(passages), tuple(results))
    for evaluator in EVALUATORS:
        score = evaluator.judge(turn)
        assert score == evaluator.judge(turn)
        assert (score.value is None) == (score.label == "not_applicable")
        assert score.value is None or 0.0 <= score.value <= 1.0


def steps_of(judge, turn):
    """How many lines of Python judging takes: the same on every machine."""
    count = 0

    def trace(frame, event, _):
        nonlocal count
        count += event == "line"
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        judge(turn)
    finally:
        sys.settrace(before)
    return count


@pytest.mark.parametrize("nasty", NASTY, ids=ascii)
def test_the_work_is_bounded_however_long_and_nasty_the_texts(nasty):
    """Twice the text beyond the limits is no more work: and what is within them is a few ten thousand lines."""
    many = 40

    def turn(size):
        text = nasty * (size // len(nasty))
        return Exchange(text, text, (text,) * many, (text,) * many)

    for evaluator in EVALUATORS:
        once, twice = (steps_of(evaluator.judge, turn(size)) for size in (LONGEST * 2, LONGEST * 4))
        assert twice <= once * 1.01 + 100
        assert once < 400_000


@pytest.mark.parametrize("nasty", NASTY, ids=ascii)
def test_no_pattern_goes_over_a_text_more_than_once(nasty):
    """Without the limits: what takes a tenth of a second would take minutes if a pattern gave back what it has read."""
    text = (nasty * (200_000 // len(nasty))) + "a"
    before = time.perf_counter()
    for pattern in (_END, _MARK, _WORD, _LISTED):
        assert sum(1 for _ in pattern.finditer(text)) >= 0
    assert time.perf_counter() - before < 10.0


def test_no_more_is_read_than_the_limits_say():
    one, all_of_them = "a" * (LONGEST_SOURCE + 1), ["b" * LONGEST_SOURCE] * 9
    assert [len(word) for word in read([one])[0]] == [LONGEST_SOURCE]
    found = read(all_of_them)
    assert [known is not None for known in found] == [True] * (ALL_SOURCES // LONGEST_SOURCE) + [False] * 5


def test_an_answer_of_ten_megabytes_is_judged_by_its_beginning():
    turn = exchange("The warehouse in Delft burned down [1]. " + "x" * 10_000_000, FIRE)
    tracemalloc.start()
    scores = [evaluator.judge(turn).value for evaluator in EVALUATORS]
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert scores == [1.0, 1.0]
    assert peak < 3_000_000  # bytes


def test_every_evaluator_has_a_name_of_its_own():
    names = [evaluator.name for evaluator in EVALUATORS]
    assert names == ["citation", "grounding"]
    assert len(set(names)) == len(names)
