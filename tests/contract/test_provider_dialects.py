"""What providers answer, byte for byte, and what it means to us."""

from __future__ import annotations

import json

import pytest

from service.ports import Delta, Finish, Text, ToolCallDelta, Usage
from tests.contract.asking import anthropic, openai, text_of
from tests.contract.provider_server import Answer, recorded


def calls_of(deltas: list[Delta]) -> list[tuple[str, str, str]]:
    calls: dict[int, list[str]] = {}
    for delta in deltas:
        if isinstance(delta, ToolCallDelta):
            call = calls.setdefault(delta.index, ["", "", ""])
            for place, part in enumerate((delta.id, delta.name, delta.arguments)):
                call[place] += part
    return [tuple(call) for _, call in sorted(calls.items())]


@pytest.mark.parametrize("piece", [1, 3, 7, 1 << 16])
@pytest.mark.parametrize(
    ("name", "text", "ending"),
    [
        ("openai_text.sse", "Grüß dich 👋", [Finish("stop"), Usage(9, 3)]),
        ("openai_crlf_comments_no_done.sse", "Hello there", [Finish("stop")]),
        ("openai_usage_in_every_chunk.sse", "abc", [Finish("length"), Usage(5, 3)]),
        ("openai_content_filter.sse", "I", [Finish("content_filter")]),
        ("llama_cpp_stop_with_usage.sse", "The capital of France is Paris.", [Finish("stop"), Usage(33, 8)]),
        ("llama_cpp_json_schema.sse", '{\n  "city": "Paris"\n}', [Finish("stop")]),
    ],
)
def test_an_openai_dialect_is_understood_however_it_is_split(name: str, text: str, ending: list[Delta], piece: int):
    seen, failure, _ = openai(Answer(recorded(name), piece=piece))
    assert failure is None
    assert text_of(seen) == text
    assert [delta for delta in seen if not isinstance(delta, Text)] == ending


def test_llama_cpp_says_length_and_may_leave_the_usage_out():
    seen, _, _ = openai(Answer(recorded("llama_cpp_length_without_usage.sse"), piece=5))
    assert "café" in text_of(seen)
    assert seen[-1] == Finish("length")


@pytest.mark.parametrize("piece", [1, 1 << 16])
def test_several_tool_calls_in_fragments_are_kept_apart(piece: int):
    seen, _, _ = openai(Answer(recorded("openai_tool_calls.sse"), piece=piece))
    assert calls_of(seen) == [
        ("call_a", "case_lookup", '{"case_id":"C-1042"}'),
        ("call_b", "policy_lookup", '{"topic": "escalation"}'),
    ]
    assert seen[-1] == Finish("tool_calls")


def test_tool_calls_without_an_index_are_kept_apart_by_their_ids_and_are_the_reason_of_the_ending():
    seen, _, _ = openai(Answer(recorded("openai_tool_calls_without_index.sse")))
    assert [name for _, name, _ in calls_of(seen)] == ["case_lookup", "policy_lookup"]
    assert seen[-1] == Finish("tool_calls")


@pytest.mark.parametrize("piece", [1, 7, 1 << 16])
def test_anthropics_events_are_understood_however_they_are_split(piece: int):
    seen, _, _ = anthropic(Answer(recorded("anthropic_text.sse"), piece=piece))
    assert text_of(seen) == "Hello «été»"
    assert seen[-2:] == [Finish("stop"), Usage(25, 15)]


def test_anthropics_tool_calls_are_numbered_and_its_cached_tokens_counted():
    seen, _, _ = anthropic(Answer(recorded("anthropic_tool_use.sse")))
    assert text_of(seen) == "Let me look."
    assert calls_of(seen) == [
        ("toolu_1", "case_lookup", '{"case_id": "C-1042"}'),
        ("toolu_2", "policy_lookup", "{}"),
    ]
    assert seen[-2:] == [Finish("tool_calls"), Usage(130, 89)]


@pytest.mark.parametrize("told", [-5, 10**9, 10**30, None])
def test_a_count_of_tokens_that_cannot_be_counts_as_not_told(told: int | None):
    count = json.dumps(told).encode()
    seen, failure, _ = openai(
        Answer(
            b'data: {"choices":[{"delta":{"content":"Hi"},"finish_reason":"stop"}]}\n\n'
            b'data: {"choices":[],"usage":{"prompt_tokens":%b,"completion_tokens":7}}\n\ndata: [DONE]\n\n' % count
        )
    )
    assert (failure, seen[-1]) == (None, Usage(0, 7))
    body = recorded("anthropic_text.sse").replace(b'"input_tokens": 25', b'"input_tokens": %b' % count)
    assert body != recorded("anthropic_text.sse")
    seen, failure, _ = anthropic(Answer(body))
    assert (failure, seen[-1]) == (None, Usage(0, 15))


def test_anthropics_refusal_is_a_content_filter():
    seen, _, _ = anthropic(Answer(recorded("anthropic_refusal.sse")))
    assert Finish("content_filter") in seen


def test_a_prompt_that_the_providers_filter_stopped_is_an_ending():
    body = {"error": {"code": "content_filter", "message": "SECRET"}}
    seen, failure, _ = openai(Answer(json.dumps(body).encode(), 400))
    assert failure is None
    assert seen == [Finish("content_filter")]


def test_an_end_without_a_reason_is_an_end_where_done_was_said():
    seen, failure, _ = openai(Answer(b'data: {"choices":[{"delta":{"content":"a"}}]}\n\ndata: [DONE]\n\n'))
    assert failure is None
    assert seen == ["a", Finish("stop")]
