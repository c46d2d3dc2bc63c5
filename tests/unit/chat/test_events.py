"""Events as SSE: each one line of JSON that its published schema allows, however odd the text in it."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from service.chat import events
from service.chat.events import EVENTS, TokenDelta, encode, encode_all

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=200)


def lines_of(block):
    """Read one SSE event as the standard says: lines end at CR, LF or both."""
    assert block.endswith(b"\n\n")
    text = block.decode()
    assert "\r" not in text
    return [line.split(": ", 1) for line in text[:-2].split("\n")]


ANY_EVENT = st.one_of(
    st.builds(events.MessageStart, message_id=TEXT, session_id=TEXT, model=TEXT, trace_id=TEXT),
    st.builds(
        events.RetrievalCompleted,
        count=st.integers(0, 9),
        documents=st.lists(
            st.builds(events.FoundDocument, id=TEXT, title=TEXT, score=st.floats(-1e6, 1e6)), max_size=3
        ).map(tuple),
        degraded=st.booleans(),
    ),
    st.builds(events.Warning, code=TEXT, message=TEXT),
    st.builds(
        events.PhaseEvent,
        phase=TEXT,
        state=st.sampled_from(["started", "ended"]),
        budget_ms=st.none() | st.integers(0, 10**9),
        elapsed_ms=st.none() | st.integers(0, 10**9),
        outcome=st.none() | TEXT,
    ),
    st.builds(events.Error, code=TEXT, message=TEXT, phase=st.none() | TEXT, retryable=st.booleans(), trace_id=TEXT),
    st.builds(
        events.MessageCompleted,
        message_id=TEXT,
        finish_reason=TEXT,
        usage=st.builds(events.TokenUsage, prompt_tokens=st.integers(0, 10**9), generated_tokens=st.integers(0, 10**9)),
        citations=st.lists(TEXT, max_size=3).map(tuple),
        duration_ms=st.integers(0, 10**9),
    ),
    st.builds(
        events.ToolCallRequested,
        call_id=TEXT,
        tool=TEXT,
        arguments=st.dictionaries(TEXT, TEXT | st.integers(-(10**9), 10**9) | st.none(), max_size=3),
        authorization=st.sampled_from(["allowed", "denied"]),
        approval=st.sampled_from(["not_required", "required"]),
        status=st.sampled_from(["running", "awaiting_approval", "denied"]),
    ),
    st.builds(events.ToolCallStarted, call_id=TEXT, tool=TEXT),
    st.builds(
        events.ToolCallCompleted,
        call_id=TEXT,
        tool=TEXT,
        status=st.sampled_from(["completed", "failed", "denied", "timed_out", "indeterminate"]),
        duration_ms=st.integers(0, 10**9),
        replayed=st.booleans(),
        error_code=st.none() | TEXT,
    ),
)
VALIDATORS = {kind.type: Draft202012Validator(kind.model_json_schema()) for kind in EVENTS}


@given(TEXT)
def test_a_token_formatted_by_hand_is_what_its_model_would_say(text):
    delta = TokenDelta(text=text)
    assert lines_of(encode(text, 7)) == lines_of(encode(delta, 7))
    VALIDATORS["token_delta"].validate({"text": text})


@given(ANY_EVENT, st.integers(1, 10**9))
def test_every_event_is_three_lines_and_its_data_is_allowed_by_its_schema(event, sequence):
    (first, second, third) = lines_of(encode(event, sequence))
    assert first == ["id", str(sequence)]
    assert second == ["event", event.type]
    assert third[0] == "data"
    data = json.loads(third[1])
    VALIDATORS[event.type].validate(data)
    assert type(event).model_validate_json(third[1]) == event


@given(st.lists(ANY_EVENT | TEXT, max_size=5), st.integers(1, 1000))
def test_events_joined_are_the_same_events_numbered_on(several, first):
    apart = b"".join(encode(event, first + offset) for offset, event in enumerate(several))
    assert encode_all(several, first) == apart


@pytest.mark.parametrize("kind", EVENTS, ids=lambda kind: kind.type)
def test_a_schema_allows_no_further_field_and_needs_every_one_but_suggestions(kind):
    schema = kind.model_json_schema()
    assert schema["additionalProperties"] is False
    assert set(schema["required"]) == set(schema["properties"]) - {"suggestions"}


def test_the_contract_s_events_are_all_there():
    assert [kind.type for kind in EVENTS] == [
        "message_start", "retrieval_completed", "token_delta", "tool_call_requested", "tool_call_started",
        "tool_call_completed", "warning", "phase", "error", "message_completed",
    ]  # fmt: skip
