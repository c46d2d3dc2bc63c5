"""A body is read on the event loop: whatever it holds, that is over within the phase's budget."""

import time
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import json

from service.api.openai_shapes import CompletionBody
from service.chat.body import ChatBody
from service.chat.steps.input_validation import MOST_VALUES, _is_light, parse
from service.chat.submission import JobBody
from service.errors import ForebayError, TooLarge
from tests.support import PROOF

BUDGET = 0.05 if PROOF else 0.5  # seconds: that of input.validation; here half of it is used, elsewhere more
BODY = 4 * 1024 * 1024 - 200  # bytes
WRAPPED = {
    "a schema": (ChatBody, b'{"session_id":"s","message":"m","response_schema":{"a":[%s]}}'),
    "an unknown field": (ChatBody, b'{"session_id":"s","message":"m","x":[%s]}'),
    "the parts of a message": (CompletionBody, b'{"messages":[{"role":"user","content":[%s]}]}'),
    "the history": (CompletionBody, b'{"messages":[%s]}'),
    "a field that is ignored": (CompletionBody, b'{"messages":[{"role":"user","content":"x"}],"x":[%s]}'),
    "a job's input": (JobBody, b'{"kind":"report","input":{"a":[%s]}}'),
}
UNITS = (b"[]", b"{}", b"0", b'""', b'{"a":0}', b'{"type":"text"}', b'{"role":"user","content":"x"}')


def is_over_in_time(body, shape):
    """Whether one of three attempts is: what it takes, and not what else this machine does."""
    return any(seconds_of(body, shape) < BUDGET for _ in range(3))


def seconds_of(body, shape):
    began = time.process_time()
    with suppress(ForebayError):
        parse(body, shape)
    return time.process_time() - began


@pytest.mark.parametrize("count", ["as many as a body holds", "as many as are read"])
@pytest.mark.parametrize("unit", UNITS)
@pytest.mark.parametrize("where", WRAPPED)
def test_a_body_of_many_values_is_read_or_refused_within_the_budget(where, unit, count):
    shape, around = WRAPPED[where]
    marks = unit.count(b"{") + unit.count(b"[") + unit.count(b",") + 1
    number = BODY // (len(unit) + 1) if count == "as many as a body holds" else (MOST_VALUES - 20) // marks
    body = around % b",".join([unit] * number)
    assert is_over_in_time(body, shape)
    if count == "as many as a body holds":
        with pytest.raises(TooLarge, match=str(MOST_VALUES)):
            parse(body, shape)


@pytest.mark.parametrize("text", ['[1], {"a": 2}', "\\", '"', '\\"', "a\\\\,", ",", "é,", "😀{"])
def test_a_text_may_hold_as_many_brackets_and_commas_as_it_likes(text):
    said = text * (1_000_000 // len(text))
    body = json.encode({"messages": [{"role": "user", "content": said}]})
    assert parse(body, CompletionBody).messages[0].content == said


def values_in(value):
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return 1 + sum(map(values_in, inner))


JSON = st.recursive(
    st.none() | st.integers() | st.text(alphabet='\\",[{a}]'),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(alphabet='\\",[{a'), inner),
)


@given(JSON)
def test_no_json_holds_more_values_than_are_counted(value):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("service.chat.steps.input_validation.MOST_VALUES", values_in(value) - 1)
        assert not _is_light(json.encode(value))
        patch.setattr("service.chat.steps.input_validation.MOST_VALUES", 2 * values_in(value))
        assert _is_light(json.encode(value))
