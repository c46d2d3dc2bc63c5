"""What every retriever must hold: the one over a file, in threads, and its twin for virtual time."""

from __future__ import annotations

import asyncio
import tempfile
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from service.errors import RetrievalFailed
from service.ports import Document, Scope
from service.retrieval.fts import FtsRetriever
from service.retrieval.inline import InlineRetriever
from tests import virtual_loop

OPEN = Scope("demo", frozenset({"public"}))


def document(name, text, *labels, tenant="demo", title=""):
    return Document(name, title or name, text, tenant, frozenset(labels))


@asynccontextmanager
async def fts():
    with tempfile.TemporaryDirectory() as folder:
        retriever = FtsRetriever(Path(folder) / "index.db")
        await retriever.open()
        try:
            yield retriever
        finally:
            await retriever.close()


@asynccontextmanager
async def inline():
    retriever = InlineRetriever()
    try:
        yield retriever
    finally:
        await retriever.close()


@pytest.fixture(params=[(fts, asyncio.run), (inline, virtual_loop.run)], ids=["fts", "inline"])
def trial(request):
    """Run `script(retriever)` on a fresh, empty retriever and return its result."""
    opened, run = request.param

    def run_script(script):
        async def main():
            async with opened() as retriever:
                return await script(retriever)

        return run(main())

    return run_script


def asked(trial, question, *documents, scope=OPEN, limit=10):
    async def script(retriever):
        for one in documents:
            await retriever.add_documents(one.tenant, [one])
        return await retriever.query(question, scope, limit)

    return trial(script)


def ids(found):
    return [one.id for one in found]


def test_the_best_match_comes_first_with_the_highest_score(trial):
    noise = [document(f"n{n}", "an unrelated paragraph about weather") for n in range(5)]
    found = asked(trial, "risk score", document("a", "a risk"), document("b", "the risk score is a score"), *noise)
    assert ids(found) == ["b", "a"]
    assert found[0].score > found[1].score > 0


def test_what_was_written_comes_back_whole(trial):
    written = document("a", "Wörter, “quotes” and 🎉", "public", title="Ein Titel")
    (found,) = asked(trial, "worter", written)
    assert replace(found, score=0.0) == written


def test_a_case_number_is_found_as_it_is_written(trial):
    papers = (document("a", "case C-1042"), document("b", "case C-1043"), document("c", "1042 units and vitamin C"))
    assert ids(asked(trial, "C-1042?", *papers)) == ["a"]


def test_another_form_of_a_word_is_found(trial):
    assert ids(asked(trial, "escalated", document("a", "an escalation of reviews"))) == ["a"]


@pytest.mark.parametrize("question", ["", "   ", "what is it about?", "🎉", '"""', "* ^ : ( )"])
def test_a_question_of_nothing_finds_nothing(trial, question):
    assert not asked(trial, question, document("a", "what is it about * ^ 🎉"))


@pytest.mark.parametrize(("limit", "found"), [(0, 0), (-1, 0), (2, 2), (9, 3)])
def test_at_most_the_limit_is_found(trial, limit, found):
    papers = [document(name, "risk") for name in "abc"]
    assert len(asked(trial, "risk", *papers, limit=limit)) == found


def test_another_tenants_papers_are_never_found(trial):
    papers = [document("a", "risk", tenant="demo"), document("a", "risk", tenant="other")]
    assert [one.tenant for one in asked(trial, "risk", *papers)] == ["demo"]


def test_a_paper_is_found_only_if_each_of_its_labels_is_in_the_scope(trial):
    papers = [document("a", "risk", "public"), document("b", "risk", "public", "sealed"), document("c", "risk")]
    assert sorted(ids(asked(trial, "risk", *papers))) == ["a", "c"]


@pytest.mark.parametrize(
    "question",
    [
        '" OR tenant:*',
        "risk NEAR(secret, 9)",
        'secret" OR "secret',
        "title:secret",
        "secret*",
        "') OR 1=1 --",
        "secret\x00",
        "{title text} : secret",
        "\ud800secret",
    ],
)
def test_no_syntax_in_a_question_leaves_the_scope(trial, question):
    hidden = [document("x", "risk secret", "sealed"), document("y", "risk secret", "public", tenant="other")]
    found = asked(trial, question, document("a", "risk secret near", "public"), *hidden)
    assert set(ids(found)) <= {"a"}


def test_writing_the_same_again_changes_nothing(trial):
    async def script(retriever):
        papers = [document("a", "risk"), document("b", "risk")]
        return [await retriever.add_documents("demo", papers) for _ in range(2)]

    assert trial(script) == [2, 0]


def test_a_new_version_replaces_the_old_one(trial):
    async def script(retriever):
        await retriever.add_documents("demo", [document("a", "the old text", "public")])
        assert await retriever.add_documents("demo", [document("a", "the new text", "sealed")]) == 1
        return [
            await retriever.query("text", OPEN, 9),
            await retriever.query("old", replace(OPEN, labels=frozenset({"sealed"})), 9),
        ]

    assert trial(script) == [[], []]


def test_documents_are_written_for_the_tenant_that_writes_them(trial):
    async def script(retriever):
        await retriever.add_documents("demo", [document("a", "risk", tenant="other")])
        return await retriever.query("risk", Scope("other", frozenset()), 9)

    assert trial(script) == []


def test_of_documents_that_cannot_be_written_none_is(trial):
    async def script(retriever):
        with pytest.raises(RetrievalFailed):
            await retriever.add_documents("demo", [document("a", "risk"), document("b", "risk \ud800")])
        return await retriever.query("risk", OPEN, 9)

    assert trial(script) == []


tenants = st.sampled_from(["demo", "other", "de*mo", 'd"emo'])
label_sets = st.frozensets(st.sampled_from(["public", "internal", "sealed", '"]', "%"]))
papers = st.builds(
    Document,
    id=st.sampled_from("abcdefgh"),
    title=st.text(max_size=10),
    text=st.sampled_from(["risk", "risk score", "secret plan", "demo other"]),
    tenant=tenants,
    labels=label_sets,
)
questions = st.lists(
    st.sampled_from(["risk", "score", "secret", "plan", "demo", '"', " OR ", "*", "NEAR(", "tenant:", "🎉"]), min_size=1
).map(" ".join)


@given(st.lists(papers, max_size=12), tenants, label_sets, questions)
@example([Document("a", "", "risk", "other", frozenset())], "demo", frozenset(), "risk")
def test_nothing_outside_the_scope_is_ever_found(written, tenant, labels, question):
    async def main():
        async with inline() as retriever:
            for paper in written:
                await retriever.add_documents(paper.tenant, [paper])
            return await retriever.query(question, Scope(tenant, labels), 50)

    kept = {(paper.tenant, paper.id): paper for paper in written}
    for paper in virtual_loop.run(main()):
        assert paper.tenant == tenant
        assert paper.labels <= labels
        assert replace(paper, score=0.0) == kept[tenant, paper.id]


def test_a_twin_in_bad_weather_is_slow_and_fails():
    async def storm():
        await asyncio.sleep(2.0)
        raise RetrievalFailed

    async def main():
        retriever = InlineRetriever(storm)
        try:
            with pytest.raises(RetrievalFailed):
                await retriever.query("risk", OPEN, 9)
            return asyncio.get_running_loop().time()
        finally:
            await retriever.close()

    assert virtual_loop.run(main()) == 2.0


def fetched(trial, names, *documents, scope=OPEN):
    async def script(retriever):
        for one in documents:
            await retriever.add_documents(one.tenant, [one])
        return sorted(await retriever.fetch(names, scope), key=lambda one: one.id)

    return trial(script)


def test_passages_are_read_again_by_their_ids_whole_and_without_a_score(trial):
    papers = [document("a", "Wörter und 🎉", "public"), document("b", "risk"), document("c", "risk")]
    assert fetched(trial, ["c", "a", "gone", "a"], *papers) == [papers[0], papers[2]]
    assert fetched(trial, [], *papers) == []


def test_nothing_outside_the_scope_is_read_again(trial):
    hidden = [document("a", "risk", tenant="other"), document("b", "risk", "public", "sealed")]
    assert fetched(trial, ["a", "b", "' OR 1=1 --", '"], "x'], *hidden) == []


def test_an_id_that_is_no_text_is_a_failed_retrieval_and_nothing_else(trial):
    async def script(retriever):
        await retriever.add_documents("demo", [document("a", "risk")])
        try:
            return ids(await retriever.fetch(["\ud800", "a"], OPEN))
        except RetrievalFailed:
            return ["a"]

    assert trial(script) == ["a"]
