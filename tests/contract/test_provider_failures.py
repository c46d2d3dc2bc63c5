"""What goes wrong at a provider, and how little of it is told."""

from __future__ import annotations

import json
import traceback

import pytest

from service.errors import ProviderFailure, ProviderRateLimited
from tests.contract.asking import DEEP, ask, openai, text_of
from tests.contract.provider_server import Answer, recorded


def assert_nothing_told(failure: ProviderFailure) -> None:
    """Neither the error nor what Python would print of it holds a word of the provider."""
    assert "SECRET" not in str(failure)
    assert "SECRET" not in repr(failure.args)
    assert "SECRET" not in repr(vars(failure))
    assert "SECRET" not in "".join(traceback.format_exception(failure))


@pytest.mark.parametrize(
    ("kind", "name", "failed", "status", "retry_safe"),
    [
        ("openai_compatible", "openai_error_in_stream.sse", "429", 429, True),
        ("openai_compatible", "openai_garbage.sse", "malformed", None, False),
        ("openai_compatible", "openai_cut.sse", "malformed", None, False),
        ("anthropic", "anthropic_overloaded.sse", "5xx", 529, True),
        ("anthropic", "anthropic_garbage.sse", "malformed", None, False),
        ("anthropic", "anthropic_cut.sse", "malformed", None, False),
    ],
)
def test_a_stream_that_goes_wrong_is_a_failure_without_the_providers_words(kind, name, failed, status, retry_safe):
    headers = (("x-request-id", "req-7"),)
    seen, failure, _ = ask(kind, Answer(recorded(name), headers=headers))
    assert text_of(seen) == "Hel"
    assert (failure.kind, failure.provider_status, failure.retry_safe) == (failed, status, retry_safe)
    assert failure.request_id == "req-7"
    assert_nothing_told(failure)


@pytest.mark.parametrize("kind", ["openai_compatible", "anthropic"])
def test_an_event_that_nests_deeper_than_anybody_reads_is_malformed(kind):
    _, failure, _ = ask(kind, Answer(b'data: {"type": "ping", "choices": [], "more": ' + DEEP + b"\n\n"))
    assert failure.kind == "malformed"


@pytest.mark.parametrize("kind", ["openai_compatible", "anthropic"])
@pytest.mark.parametrize(
    ("status", "failed", "retry_safe"),
    [
        *[(status, "4xx", False) for status in (302, 400, 401, 404)],
        *[(status, "4xx", True) for status in (408, 409)],
        *[(status, "5xx", True) for status in (500, 503, 529)],
    ],
)
def test_a_status_says_what_failed_and_whether_to_try_again(kind: str, status: int, failed: str, retry_safe: bool):
    body = json.dumps({"type": "error", "error": {"type": "some_error", "message": "SECRET words", "code": None}})
    _, failure, _ = ask(kind, Answer(body.encode(), status, (("request-id", "req-9"),)))
    assert (failure.kind, failure.provider_status, failure.retry_safe) == (failed, status, retry_safe)
    assert (failure.provider_code, failure.request_id) == ("some_error", "req-9")
    assert_nothing_told(failure)


@pytest.mark.parametrize(
    ("header", "seconds"),
    [("7", 7.0), ("0.5", 0.5), ("Tue, 14 Nov 2023 22:13:50 GMT", 30.0), ("soon", None), ("-3", None), ("9e99", None)],
)
def test_a_rate_limit_says_how_long_to_wait_in_seconds_or_as_a_date(header: str, seconds: float | None):
    _, failure, _ = openai(Answer(b"{}", 429, (("Retry-After", header),)))
    assert isinstance(failure, ProviderRateLimited)
    assert (failure.kind, failure.retry_after, failure.retry_safe) == ("429", seconds, True)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>SECRET</html>",
        b'"SECRET"',
        b'{"error": "SECRET"}',
        b"\xff\xfe",
        b'{"error": {"code": "\xff"}}',
        b'{"error": {"code": ' + DEEP,
    ],
    ids=["nothing", "a page", "a text", "words", "no text", "a code that is no text", "too deep"],
)
def test_an_error_page_of_any_shape_is_only_a_status(body: bytes):
    _, failure, _ = openai(Answer(body, 502))
    assert (failure.kind, failure.provider_code) == ("5xx", "")
    assert_nothing_told(failure)


def test_an_error_code_is_a_word_of_safe_characters():
    code = "bad code: <b>" + "x" * 100
    _, failure, _ = openai(Answer(json.dumps({"error": {"code": code}}).encode(), 400))
    assert failure.provider_code == ("bad_code:__b_" + "x" * 100)[:64]


def test_a_json_answer_instead_of_a_stream_is_malformed():
    _, failure, _ = openai(Answer(b'{"choices":[{"message":{"content":"hi"}}]}'))
    assert failure.kind == "malformed"
