"""The client of a service of suggestions, against a real one on a socket."""

import asyncio
import json

import pytest

from service.errors import RetrievalFailed
from service.ports import Scope
from service.retrieval.suggestions import SuggestionService
from telemetry.catalogue import Attr
from telemetry.testing import recording_observer
from tests.contract.suggestion_server import SEE_ALSO, SuggestionServer

SCOPE = Scope("demo", frozenset({"public", "internal"}))


@pytest.fixture
def server():
    with SuggestionServer() as running:
        yield running


def ask(url, *, patience=30.0, limit=3):
    """Return what was suggested, and the span of the question."""
    observer, recorder = recording_observer()

    async def scenario():
        service = SuggestionService(url, "s3cret", patience, observer)
        await service.open()
        try:
            return await service.query("What is C-1042 about?", SCOPE, limit)
        finally:
            await service.close()

    try:
        return asyncio.run(scenario()), recorder
    finally:
        recorder.assert_no_open_span()


def test_the_service_is_told_who_asks_and_in_which_trace(server):
    (found,), recorder = ask(server.url)
    assert (found.id, found.title, found.tenant, found.labels) == ("C-7", "Case C-7", "demo", frozenset({"internal"}))
    ((headers, question),) = server.asked
    assert question == {
        "question": "What is C-1042 about?",
        "tenant": "demo",
        "labels": ["internal", "public"],
        "limit": 3,
    }
    assert headers["Authorization"] == "Bearer s3cret"
    span = recorder.span("suggestions")
    assert span["trace_id"] in headers["traceparent"]
    assert span["attributes"] == {Attr.HITS: 1}


def test_what_is_outside_the_scope_is_dropped_and_the_rest_is_cut_to_the_limit(server):
    secret = SEE_ALSO | {"id": "C-8", "labels": ["restricted"]}
    server.body = json.dumps({"suggestions": [secret, *[SEE_ALSO] * 5]}).encode()
    found, _ = ask(server.url, limit=2)
    assert [one.id for one in found] == ["C-7", "C-7"]


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (500, b"{}"),
        (302, b"{}"),
        (200, b"<html>"),
        (200, b'{"suggestions": [{"id": 7}]}'),
        (200, b'{"suggestions": "\xff"}'),
        (200, b"[" * 70_000),
        (200, b'{"more": ' + b"[" * 60_000),
    ],
    ids=["an error", "elsewhere", "no JSON", "wrong fields", "no text", "too large", "too deep"],
)
def test_an_answer_that_is_none_is_a_failed_retrieval(server, status, body):
    server.status, server.body = status, body
    with pytest.raises(RetrievalFailed):
        ask(server.url)


def test_nobody_waits_for_a_service_that_hangs_longer_than_its_limit(server):
    server.free.clear()
    with pytest.raises(RetrievalFailed):
        ask(server.url, patience=0.2)  # it hangs for 30 s


def test_a_service_that_is_away_is_a_failed_retrieval(server):
    with SuggestionServer() as gone:
        url = gone.url
    with pytest.raises(RetrievalFailed):
        ask(url)


def test_an_address_that_nobody_can_be_asked_at_is_a_failed_retrieval(server):
    with pytest.raises(RetrievalFailed):
        ask(server.url.replace("://", "://somebody:else@"))  # a name and a password beside our key
