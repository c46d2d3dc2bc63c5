"""What providers answer, byte for byte, and what it means to us."""

from __future__ import annotations

import asyncio
import json
import traceback
from contextlib import aclosing

import pytest

from service.errors import ProviderFailure, ProviderRateLimited
from service.ports import ChatMessage, Delta, Finish, ModelRequest, Text, ToolCall, ToolCallDelta, ToolSpec, Usage
from service.providers.registry import Means, build
from service.providers.rows import ProviderRow
from telemetry.testing import recording_observer
from tests.contract.provider_server import Answer, Asked, Provider, provider, recorded

OBSERVER = recording_observer()[0]
NOW = 1_700_000_000.0
REQUEST = ModelRequest("small", (ChatMessage("user", "Hello"),))
DEEP = b"[" * 3_000  # more than an interpreter's stack


def ask(kind: str, *answers: Answer, requests: tuple[ModelRequest, ...] = (REQUEST,), **row):
    """Ask one provider; return its deltas, the failure if one came, and the server's side of the story."""

    async def scenario() -> tuple[list[Delta], ProviderFailure | None, Provider]:
        seen: list[Delta] = []
        async with provider(*answers) as server:
            configured = ProviderRow("upstream", kind, ("small",), base_url=f"{server.base_url}/v1", **row)
            model = build(configured, Means(OBSERVER, now=lambda: NOW, key="the-key"))
            try:
                for request in requests:
                    async with aclosing(model.stream(request)) as deltas:
                        async for said in deltas:
                            seen += said
            except ProviderFailure as failure:
                return seen, failure, server
            finally:
                await model.close()
        return seen, None, server

    return asyncio.run(scenario())


def openai(*answers: Answer, **more):
    return ask("openai_compatible", *answers, **more)


def anthropic(*answers: Answer, **more):
    return ask("anthropic", *answers, **more)


def text_of(deltas: list[Delta]) -> str:
    return "".join(delta for delta in deltas if isinstance(delta, Text))


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


def test_a_prompt_that_the_providers_filter_stopped_is_an_ending():
    body = {"error": {"code": "content_filter", "message": "SECRET"}}
    seen, failure, _ = openai(Answer(json.dumps(body).encode(), 400))
    assert failure is None
    assert seen == [Finish("content_filter")]


def test_nobody_there_is_a_failure_to_connect():
    async def scenario() -> None:
        async with provider() as server:
            address = server.base_url
        model = build(
            ProviderRow("gone", "openai_compatible", ("small",), base_url=address), Means(OBSERVER, now=lambda: NOW)
        )
        with pytest.raises(ProviderFailure) as failure:
            async with aclosing(model.stream(REQUEST)) as deltas:
                await anext(deltas)
        await model.close()
        assert (failure.value.kind, failure.value.retry_safe) == ("connect", True)

    asyncio.run(scenario())


def test_an_end_without_a_reason_is_an_end_where_done_was_said():
    seen, failure, _ = openai(Answer(b'data: {"choices":[{"delta":{"content":"a"}}]}\n\ndata: [DONE]\n\n'))
    assert failure is None
    assert seen == ["a", Finish("stop")]


def test_a_json_answer_instead_of_a_stream_is_malformed():
    _, failure, _ = openai(Answer(b'{"choices":[{"message":{"content":"hi"}}]}'))
    assert failure.kind == "malformed"


def test_a_server_that_refuses_stream_options_is_asked_again_without_and_not_asked_for_them_any_more():
    refusal = Answer(b'{"error": {"message": "Unrecognized request argument supplied: stream_options"}}', 400)
    fine = Answer(recorded("openai_crlf_comments_no_done.sse"))
    seen, failure, server = openai(refusal, fine, fine, requests=(REQUEST, REQUEST))
    assert failure is None
    assert text_of(seen) == "Hello there" * 2
    assert ["stream_options" in asked.body for asked in server.asked] == [True, False, False]


def test_a_server_that_wants_the_limit_under_its_newer_name_gets_it():
    refusal = Answer(b"""{"error": {"message": "Use 'max_completion_tokens' instead."}}""", 400)
    request = ModelRequest("small", REQUEST.messages, max_output_tokens=50)
    _, failure, server = openai(refusal, Answer(recorded("openai_text.sse")), requests=(request,), max_output_tokens=20)
    assert failure is None
    assert server.asked[1].body["max_completion_tokens"] == 20
    assert "max_tokens" not in server.asked[1].body


def test_a_refusal_of_something_else_is_not_asked_again():
    _, failure, server = openai(Answer(b'{"error": {"message": "no such model"}}', 404))
    assert failure.kind == "4xx"
    assert len(server.asked) == 1


@pytest.mark.parametrize("kind", ["openai_compatible", "anthropic"])
def test_a_connection_is_kept_after_an_answer_that_was_read_to_its_end(kind: str):
    name = "openai_text.sse" if kind == "openai_compatible" else "anthropic_text.sse"
    _, _, server = ask(kind, *[Answer(recorded(name))] * 3, requests=(REQUEST,) * 3)
    assert [asked.connection for asked in server.asked] == [1, 1, 1]


def test_a_kept_connection_that_turns_out_to_be_dead_is_replaced():
    whole = recorded("openai_text.sse")

    async def scenario() -> int:
        async with provider(Answer(whole), Answer(silent=True, then="cut"), Answer(whole)) as server:
            row = ProviderRow("upstream", "openai_compatible", ("small",), base_url=server.base_url)
            model = build(row, Means(OBSERVER, now=lambda: NOW))
            for _ in range(2):
                async with aclosing(model.stream(REQUEST)) as deltas:
                    assert text_of([delta async for said in deltas for delta in said]) == "Grüß dich 👋"
            await model.close()
            return server.connections

    assert asyncio.run(scenario()) == 2


def test_a_new_connection_that_dies_is_a_failure_and_is_not_tried_again_in_silence():
    _, failure, server = openai(Answer(silent=True, then="cut"), Answer(recorded("openai_text.sse")))
    assert (failure.kind, failure.retry_safe) == ("connect", True)
    assert len(server.asked) == 1


def sent(kind: str, request: ModelRequest, **row) -> Asked:
    name = "openai_text.sse" if kind == "openai_compatible" else "anthropic_text.sse"
    return ask(kind, Answer(recorded(name)), requests=(request,), **row)[2].asked[0]


CONVERSATION = ModelRequest(
    "small",
    (
        ChatMessage("system", "Be brief."),
        ChatMessage("user", "Look up C-1."),
        ChatMessage("assistant", "", (ToolCall("c1", "case_lookup", '{"case_id":"C-1"}'), ToolCall("c2", "x", "oops"))),
        ChatMessage("tool", "open", tool_call_id="c1"),
        ChatMessage("tool", "none", tool_call_id="c2"),
    ),
    tools=(ToolSpec("case_lookup", "Finds a case.", {"type": "object"}),),
    response_schema={"type": "object"},
    max_output_tokens=100,
    extra={"temperature": 0.1, "stop": "END", "n": 3, "max_tokens": 9, "stream": False, "model": "other"},
)


def test_an_openai_server_is_asked_in_its_own_words():
    asked = sent("openai_compatible", CONVERSATION)
    assert asked.headers["authorization"] == "Bearer the-key"
    body = asked.body
    assert (body["model"], body["stream"], body["temperature"], body["max_tokens"]) == ("small", True, 0.1, 100)
    assert "n" not in body
    assert [message["role"] for message in body["messages"]] == ["system", "user", "assistant", "tool", "tool"]
    assert body["messages"][2]["tool_calls"][0]["function"]["arguments"] == '{"case_id":"C-1"}'
    assert body["messages"][3]["tool_call_id"] == "c1"
    assert body["tools"][0]["function"]["name"] == "case_lookup"
    assert body["response_format"]["json_schema"]["schema"] == {"type": "object"}


def test_anthropic_is_asked_in_its_own_words():
    asked = sent("anthropic", CONVERSATION)
    assert (asked.headers["x-api-key"], asked.headers["anthropic-version"]) == ("the-key", "2023-06-01")
    body = asked.body
    assert (body["system"], body["max_tokens"], body["stop_sequences"]) == ("Be brief.", 100, ["END"])
    assert [turn["role"] for turn in body["messages"]] == ["user", "assistant", "user"]
    assert body["messages"][1]["content"] == [
        {"type": "tool_use", "id": "c1", "name": "case_lookup", "input": {"case_id": "C-1"}},
        {"type": "tool_use", "id": "c2", "name": "x", "input": {}},
    ]
    assert [block["tool_use_id"] for block in body["messages"][2]["content"]] == ["c1", "c2"]
    assert body["tools"][0]["input_schema"] == {"type": "object"}
    assert body["output_config"]["format"]["schema"] == {"type": "object"}
    assert {"n", "stop"}.isdisjoint(body)


def test_the_trace_goes_along_to_the_provider():
    async def scenario() -> tuple[str, dict[str, str]]:
        async with provider(Answer(recorded("openai_text.sse"))) as server:
            row = ProviderRow("upstream", "openai_compatible", ("small",), base_url=server.base_url)
            model = build(row, Means(OBSERVER, now=lambda: NOW))
            with OBSERVER.span("chat small", kind="client") as span:
                async with aclosing(model.stream(REQUEST)) as deltas:
                    assert [delta async for said in deltas for delta in said]
            await model.close()
            return span.trace_id, server.asked[0].headers

    trace_id, headers = asyncio.run(scenario())
    assert headers["traceparent"].split("-")[1] == trace_id


def assert_nothing_told(failure: ProviderFailure) -> None:
    """Neither the error nor what Python would print of it holds a word of the provider."""
    assert "SECRET" not in str(failure)
    assert "SECRET" not in repr(failure.args)
    assert "SECRET" not in repr(vars(failure))
    assert "SECRET" not in "".join(traceback.format_exception(failure))


# --- what a client of the OpenAI format wrote -------------------------------------------------------------------------

WEATHER = {"type": "function", "function": {"name": "weather", "strict": True, "parameters": {"type": "object"}}}
WANTED = {"type": "json_schema", "json_schema": {"name": "verdict", "strict": True, "schema": {"type": "object"}}}


def written(**extra) -> ModelRequest:
    tools = (ToolSpec("weather", "", {"type": "object"}),) if "tools" in extra else ()
    return ModelRequest("small", REQUEST.messages, tools=tools, extra=extra)


def test_an_openai_server_gets_a_clients_tools_and_format_to_the_letter():
    body = sent("openai_compatible", written(tools=[WEATHER], tool_choice="required", response_format=WANTED)).body
    assert (body["tools"], body["tool_choice"], body["response_format"]) == ([WEATHER], "required", WANTED)


@pytest.mark.parametrize(
    ("said", "meant"),
    [
        ({}, None),
        ({"tool_choice": "auto"}, {"type": "auto"}),
        ({"tool_choice": "none", "parallel_tool_calls": False}, {"type": "none"}),
        ({"tool_choice": "required"}, {"type": "any"}),
        ({"tool_choice": {"type": "function", "function": {"name": "weather"}}}, {"type": "tool", "name": "weather"}),
        ({"parallel_tool_calls": False}, {"type": "auto", "disable_parallel_tool_use": True}),
        ({"tool_choice": "required", "parallel_tool_calls": False}, {"type": "any", "disable_parallel_tool_use": True}),
    ],
)
def test_anthropic_gets_a_clients_tools_and_how_they_may_be_chosen_in_its_own_words(said, meant):
    body = sent("anthropic", written(tools=[WEATHER], **said)).body
    assert body["tools"] == [{"name": "weather", "description": "", "input_schema": {"type": "object"}}]
    assert body.get("tool_choice") == meant
    assert "parallel_tool_calls" not in body


def test_anthropic_gets_a_clients_response_format_in_its_own_words():
    body = sent("anthropic", written(response_format=WANTED)).body
    assert body["output_config"] == {"format": {"type": "json_schema", "schema": {"type": "object"}}}
    assert "output_config" not in sent("anthropic", written(response_format={"type": "json_object"})).body


@pytest.mark.parametrize(
    "arguments", ["no JSON", "[1]", '{"a": ' + DEEP.decode()], ids=["no JSON", "a list", "too deep"]
)
def test_anthropic_gets_no_arguments_where_a_call_of_the_history_has_none_that_are_an_object(arguments):
    said = ChatMessage("assistant", "", (ToolCall("call_1", "case_lookup", arguments),))
    body = sent("anthropic", ModelRequest("small", (ChatMessage("user", "Hello"), said))).body
    assert body["messages"][1]["content"] == [{"type": "tool_use", "id": "call_1", "name": "case_lookup", "input": {}}]
