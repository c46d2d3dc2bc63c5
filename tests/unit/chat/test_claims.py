"""Which sentences claim a change that nobody made."""

import time

import pytest

from service.chat.claims import unfounded_claim
from service.retrieval import corpus

REVIEW = ["open_escalation_review"]


@pytest.mark.parametrize(
    "text",
    [
        "I have changed the status of case C-1042 to measures.",
        "I've updated its status.",
        "We set the status to monitoring.",
        "Done. The status has been changed to measures.",
        "The case's status is now set to measures.",
        "The status was successfully updated.",
    ],
)
@pytest.mark.parametrize("acted", [[], REVIEW])
def test_no_tool_changes_a_status_so_no_answer_may_claim_it(text, acted):
    assert unfounded_claim(text, acted)


@pytest.mark.parametrize(
    "text",
    [
        "I have opened an escalation review for C-1042.",
        "I opened the review.",
        "An escalation review has been opened.",
        "The review for case C-1042 has now been requested.",
        "Summary follows.\nI have escalated this for a review",
    ],
)
def test_a_review_may_be_claimed_by_who_has_opened_one(text):
    assert unfounded_claim(text, [])
    assert unfounded_claim(text, REVIEW) is None


@pytest.mark.parametrize(
    "text",
    [
        "",
        "The status has been changed to measures on 2 May [1].",
        "I have not changed the status.",
        "No escalation review has been opened.",
        "I haven't opened a review.",
        "An escalation review is needed, because the risk score is 16 of 25.",
        "Once a review has been opened, the panel has ten days.",
        "Has a review been opened?",
        "If the status is changed, the company must be told.",
        "The status of the case may be changed by the desk lead only.",
        "The case is in status assessment.",
        "I can open a review when you ask for it.",
        "The review is opened by a referral that names the reasons.",
        "The policy is applied as it was.",
        "I have read the documents on the status of C-1042.",
    ],
)
def test_who_reports_denies_asks_or_supposes_claims_nothing(text):
    assert unfounded_claim(text, []) is None


def test_nothing_in_the_demo_corpus_is_taken_for_a_claim():
    texts = [document.text for document in corpus.documents()]
    texts += [policy["rule"] for policy in corpus.policies().values()]
    assert [text for text in texts if unfounded_claim(text, [])] == []


def test_an_answer_of_any_length_is_checked_in_no_time():
    hostile = ["I have opened " * 20_000, "status " * 40_000, "a." * 100_000, "I have " + "now " * 50_000]
    for text in hostile:
        before = time.process_time()
        unfounded_claim(text, [])
        assert time.process_time() - before < 5.0  # a fifth of a second, and a minute if it grew with the square
