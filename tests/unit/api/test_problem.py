"""A refusal as application/problem+json (RFC 9457)."""

import json

import pytest

from service.api.problem import problem
from service.errors import Code, ForebayError, InvalidRequest, Overloaded, RateLimited, Unauthenticated

TRACE = "0af7651916cd43dd8448eb211c80319c"


def kinds(kind=ForebayError):
    """Every class of error that can be made of a sentence."""
    found = [kind]
    for child in kind.__subclasses__():
        found += kinds(child)
    return [one for one in found if one.__init__ is ForebayError.__init__]


@pytest.mark.parametrize("kind", kinds(), ids=lambda kind: kind.__name__)
def test_every_error_is_a_problem_with_a_code_of_the_closed_list(kind):
    status, headers, body = problem(kind("What is wrong."), TRACE)
    told = json.loads(body)
    assert list(told) == ["type", "title", "status", "code", "detail", "trace_id"]
    assert told["status"] == status
    assert 400 <= status < 600
    assert told["code"] in set(Code)
    assert (told["detail"], told["trace_id"]) == ("What is wrong.", TRACE)
    assert dict(headers)[b"content-type"] == b"application/problem+json"
    assert int(dict(headers)[b"content-length"]) == len(body)
    assert (b"retry-after" in dict(headers)) == (status in (429, 503))


@pytest.mark.parametrize(("seconds", "header"), [(None, b"1"), (0.0, b"1"), (0.2, b"1"), (1.2, b"2"), (59.0, b"59")])
@pytest.mark.parametrize("kind", [Overloaded, RateLimited])
def test_retry_after_is_in_whole_seconds_rounded_up_and_at_least_one(kind, seconds, header):
    _, headers, _ = problem(kind(retry_after=seconds), TRACE)
    assert dict(headers)[b"retry-after"] == header


def test_an_error_may_bring_a_status_of_its_own():
    status, _, body = problem(InvalidRequest("No JSON", status=400), TRACE)
    assert status == json.loads(body)["status"] == 400


def test_without_a_trace_there_is_no_trace_id():
    assert json.loads(problem(InvalidRequest(), "0" * 32)[2])["trace_id"] is None


def test_who_is_not_known_is_asked_for_a_bearer_key():
    assert dict(problem(Unauthenticated(), TRACE)[1])[b"www-authenticate"] == b"Bearer"
