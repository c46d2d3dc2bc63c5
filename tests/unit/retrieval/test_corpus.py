"""The demo corpus holds together: the question that everybody tries first can be answered from it."""

from __future__ import annotations

from service.policy.cedar import LABELS
from service.ports import Scope
from service.retrieval import corpus
from service.retrieval.inline import InlineReranker, InlineRetriever
from tests.virtual_loop import run

QUESTION = "Summarize case C-1042 and identify whether escalation review is needed."


def test_every_document_belongs_to_the_demo_and_has_a_known_label():
    documents = corpus.documents()
    assert len({document.id for document in documents}) == len(documents) >= 15
    for document in documents:
        assert document.tenant == corpus.TENANT
        assert document.labels
        assert document.labels <= LABELS
        assert document.title
        assert 100 < len(document.text) < 800  # two or three fit the prompt of the small model


def test_the_register_names_documents_that_exist():
    known = {document.id for document in corpus.documents()}
    assert all(set(case["documents"]) <= known for case in corpus.cases().values())
    assert set(corpus.policies()) <= known


def test_the_register_and_the_papers_tell_the_same_of_c_1042():
    case = corpus.cases()["C-1042"]
    summary = next(document.text for document in corpus.documents() if document.id == "C-1042-summary")
    for fact in (case["opened_on"][:4], f"{case['units_on_market']:,}", case["status"], f"is {case['risk_score']} out"):
        assert fact in summary


def test_c_1042_needs_an_escalation_review_for_two_reasons():
    case, rule = corpus.cases()["C-1042"], corpus.policies()["ESC-1"]
    reasons = {reason["id"]: reason for reason in rule["reasons"]}
    injured = sum(case["injuries"].values())
    assert case["risk_score"] >= reasons["a"]["risk_score_at_least"]
    assert case["units_on_market"] > reasons["b"]["units_on_market_over"]
    assert injured >= reasons["b"]["injuries_at_least"]
    assert case["injuries"]["serious"] < reasons["c"]["serious_injuries_at_least"]


def test_the_demo_question_finds_the_case_and_the_threshold_first():
    documents = corpus.documents()

    async def ask():
        retriever = InlineRetriever()
        await retriever.add_documents(corpus.TENANT, documents)
        found = await retriever.query(QUESTION, Scope("demo", frozenset({"public", "internal"})), 5)
        ranked = await InlineReranker().rerank(QUESTION, found)
        await retriever.close()
        return [document.id for document in ranked]

    assert run(ask())[:2] == ["C-1042-summary", "ESC-1"]
