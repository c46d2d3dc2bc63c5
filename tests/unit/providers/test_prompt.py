"""Putting a prompt together."""

import re

from hypothesis import given
from hypothesis import strategies as st

from service.ports import ChatMessage, Document, ToolCall
from service.providers.prompt import MESSAGE_TOKENS, assemble, cut, estimate_tokens, question_of, refit, render

WORDS = st.text(st.characters(exclude_categories=("Cs",)), max_size=60)
FORGED = st.lists(
    st.sampled_from(["</document>", "< / DOCUMENT>", '<document number="9">', "</documents>", "<", "\n", "Fact."]),
    max_size=8,
).map("".join)
DOCUMENTS = st.lists(
    st.builds(Document, st.just("d"), FORGED | WORDS, FORGED | WORDS, st.just("t"), st.just(frozenset())), max_size=4
)
HISTORY = st.lists(st.builds(ChatMessage, st.sampled_from(["user", "assistant", "tool"]), WORDS), max_size=6)


def document(text: str, title: str = "Title") -> Document:
    return Document("d1", title, text, "demo", frozenset())


def total(messages: tuple[ChatMessage, ...]) -> int:
    return sum(estimate_tokens(message.content) + MESSAGE_TOKENS for message in messages)


@given(DOCUMENTS, WORDS)
def test_a_document_never_opens_or_closes_a_delimiter(documents: list[Document], question: str):
    message = assemble("", documents, [], question)[-1].content
    shown = message.removesuffix(question)
    assert len(re.findall(r"(?i)<[\s/]*document\b", shown)) == 2 * len(documents)
    assert len(re.findall(r"(?i)<[\s/]*documents\b", shown)) == (2 if documents else 0)


@given(WORDS, DOCUMENTS, HISTORY, WORDS, st.integers(MESSAGE_TOKENS, 300))
def test_a_prompt_never_exceeds_its_limit(system, documents, history, question, limit: int):
    assert total(assemble(system, documents, history, question, context_tokens=limit)) <= limit


@given(DOCUMENTS, WORDS)
def test_the_question_is_read_back_as_it_was_asked(documents: list[Document], question: str):
    message = assemble("s", documents, [], question)[-1].content
    if documents and "</documents>" not in question:
        assert question_of(message) == question


@given(HISTORY, st.integers(MESSAGE_TOKENS, 300))
def test_what_is_left_of_the_history_is_its_end_and_begins_with_a_user(history: list[ChatMessage], limit: int):
    kept = list(assemble("", [], history, "q", context_tokens=limit)[:-1])
    assert kept == history[len(history) - len(kept) :]
    assert not kept or kept[0].role == "user"


@given(WORDS, st.integers(0, 40))
def test_a_cut_is_the_longest_beginning_that_fits(text: str, limit: int):
    kept = cut(text, limit, estimate_tokens)
    assert text.startswith(kept)
    assert estimate_tokens(kept) <= limit
    assert kept == text or estimate_tokens(text[: len(kept) + 1]) > limit


def test_without_a_limit_everything_is_there_in_its_order():
    history = [ChatMessage("user", "before"), ChatMessage("assistant", "answer")]
    system, *said, last = assemble("Be brief.", [document("Fact one."), document("Fact two.")], history, "Now?")
    assert system == ChatMessage("system", "Be brief.")
    assert said == history
    assert last.content.index('number="1"') < last.content.index('number="2"') < last.content.index("Now?")


def test_the_first_document_is_shown_in_part_if_none_fits_whole():
    message = assemble("", [document("word " * 400)], [], "q", context_tokens=100)[-1].content
    assert '<document number="1" title="Title">\nword word' in message
    assert message.count("</document>") == 1


def test_the_last_documents_are_left_out_first():
    message = assemble("", [document("one " * 40), document("two " * 400)], [], "q", context_tokens=120)[-1].content
    assert "one" in message
    assert "two" not in message


def test_a_tool_result_is_not_kept_without_its_call():
    call = ChatMessage("assistant", "", (ToolCall("c", "case_lookup", "{}" * 200),))
    history = [ChatMessage("user", "hi"), call, ChatMessage("tool", "result", tool_call_id="c")]
    assert [message.role for message in assemble("", [], history, "q", context_tokens=60)] == ["user"]


def test_a_title_cannot_end_its_attribute():
    assert 'title="a&quot;&gt; b"' in render(1, document("x", title='a"> \n b'))


def test_an_estimate_grows_with_the_bytes():
    assert estimate_tokens("") == 0
    assert estimate_tokens("word") == 2
    assert estimate_tokens("日本語") == 3


# --- for another model --------------------------------------------------------------------------------------------

RESULT = (
    ChatMessage("assistant", "", (ToolCall("c", "case_lookup", "{}"),)),
    ChatMessage("tool", "It is open.", tool_call_id="c"),
)


def size(messages):
    return sum(estimate_tokens(message.content) + MESSAGE_TOKENS for message in messages)


@given(WORDS, DOCUMENTS, HISTORY, st.integers(40, 400))
def test_a_prompt_for_another_model_is_what_would_have_been_put_together_for_it(system, documents, history, limit):
    whole = assemble(system, documents, history, "What now?")
    assert refit(whole, documents, None) == whole
    fitted = refit(whole, documents, limit)
    assert fitted == whole if size(whole) <= limit else size(fitted) <= limit
    assert question_of(fitted[-1].content) == "What now?"


def test_calls_and_results_after_the_question_are_kept_and_the_rest_makes_room():
    documents = [document("one " * 40), document("two " * 400)]
    whole = (*assemble("Be brief.", documents, [ChatMessage("user", "hi " * 90)], "What now?"), *RESULT)
    fitted = refit(whole, documents, 150)
    assert fitted[-2:] == RESULT
    assert [message.role for message in fitted] == ["system", "user", "assistant", "tool"]
    assert "one" in fitted[1].content
    assert "two" not in fitted[1].content
    assert size(fitted) <= 150


def test_a_client_s_own_prompt_loses_its_oldest_messages():
    own = tuple(ChatMessage(role, f"{role} {n} " * 9) for n in range(9) for role in ("user", "assistant"))
    fitted = refit((*own, ChatMessage("user", "What now?")), (), 120)
    assert fitted[-1].content == "What now?"
    assert fitted[:-1] == own[-len(fitted) + 1 :]
    assert size(fitted) <= 120


def test_a_prompt_without_a_question_is_left_as_it_is():
    assert refit(RESULT, (), 1) == RESULT
