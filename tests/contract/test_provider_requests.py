"""What a provider is asked, in its own words, and asked again where it knows others."""

from __future__ import annotations

import asyncio
from contextlib import aclosing

import pytest

from service.ports import ChatMessage, ModelRequest, ToolCall, ToolSpec
from service.providers.registry import Means, build
from service.providers.rows import ProviderRow
from tests.contract.asking import DEEP, NOW, OBSERVER, REQUEST, ask, openai, text_of
from tests.contract.provider_server import Answer, Asked, provider, recorded


def sent(kind: str, request: ModelRequest, **row) -> Asked:
    name = "openai_text.sse" if kind == "openai_compatible" else "anthropic_text.sse"
    return ask(kind, Answer(recorded(name)), requests=(request,), **row)[2].asked[0]


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


# --- what a client of the OpenAI format wrote ----------------------------------------------------------------------


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
