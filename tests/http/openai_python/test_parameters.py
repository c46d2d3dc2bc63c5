"""What OpenAI's own Python SDK passes on: parameters, tools, formats, sessions."""

import pytest
from pydantic import BaseModel

from tests.http.openai_python.calling import ASKED, SIM

WEATHER = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "Tells the weather.",
        "strict": True,
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string"}},
            "required": ["city"],
            "additionalProperties": False,
        },
    },
}


def test_parameters_reach_the_provider_as_the_client_wrote_them(client, upstream):
    client.chat.completions.create(
        model="echo",
        messages=[
            {"role": "developer", "content": "Be brief."},
            {"role": "user", "content": [{"type": "text", "text": "hi"}]},
        ],
        temperature=0.25,
        top_p=0.5,
        seed=7,
        stop=["###"],
        max_completion_tokens=9,
        logit_bias={"50256": -100},
        metadata={"job": "nightly"},
        extra_body={"swordfish": 1},
    )
    body = upstream.next().body
    assert body["messages"] == [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "hi"}]
    assert (body["temperature"], body["top_p"], body["seed"], body["stop"]) == (0.25, 0.5, 7, ["###"])
    assert (body["max_tokens"], body["logit_bias"], body["metadata"]) == (9, {"50256": -100}, {"job": "nightly"})
    assert body["stream_options"] == {"include_usage": True}
    assert "swordfish" not in body


@pytest.mark.parametrize("stream", [False, True])
def test_tools_are_the_client_s_own(client, upstream, stream):
    answered = client.chat.completions.create(
        model="calls", messages=ASKED, tools=[WEATHER], tool_choice="required", parallel_tool_calls=True, stream=stream
    )
    if stream:
        chunks = list(answered)
        calls = [call for chunk in chunks for call in chunk.choices[0].delta.tool_calls or ()]
        reason = chunks[-1].choices[0].finish_reason
    else:
        calls, reason = answered.choices[0].message.tool_calls, answered.choices[0].finish_reason
    assert [(call.id, call.function.name, call.function.arguments) for call in calls] == [
        ("call_1", "weather", '{"city": "Ulm"}'),
        ("call_2", "time", "{}"),
    ]
    assert reason == "tool_calls"
    body = upstream.next().body
    assert (body["tools"], body["tool_choice"], body["parallel_tool_calls"]) == ([WEATHER], "required", True)


def test_results_of_tools_go_back_to_the_model(client, upstream):
    call = {"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Ulm"}'}}
    messages = [
        *ASKED,
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "call_1", "content": "sunny all day"},
    ]
    answer = client.chat.completions.create(model="echo", messages=messages, tools=[WEATHER])
    assert answer.choices[0].message.content == "sunny all day "
    _, assistant, tool = upstream.next().body["messages"]
    assert assistant["tool_calls"] == [call]
    assert tool == {"role": "tool", "tool_call_id": "call_1", "content": "sunny all day"}


def test_the_simulated_model_calls_the_client_s_tools_too(client):
    answer = client.chat.completions.create(model=f"{SIM},tool=weather", messages=ASKED, tools=[WEATHER])
    (call,) = answer.choices[0].message.tool_calls
    assert call.function.name == "weather"
    assert "city" in call.function.arguments


class Verdict(BaseModel):
    summary: str
    open: bool
    steps: list[str]


def test_a_response_format_is_passed_on(client, upstream):
    wanted = {"type": "json_schema", "json_schema": {"name": "verdict", "schema": Verdict.model_json_schema()}}
    client.chat.completions.create(model="echo", messages=ASKED, response_format=wanted)
    assert upstream.next().body["response_format"] == wanted


def test_the_sdk_parses_a_structured_answer(client):
    answer = client.chat.completions.parse(model="sim:ttft_ms=5,interval_ms=0", messages=ASKED, response_format=Verdict)
    assert isinstance(answer.choices[0].message.parsed, Verdict)


def test_a_session_and_retrieval_can_be_asked_for(client, service, upstream):
    client.chat.completions.create(
        model="echo",
        messages=[{"role": "user", "content": "What is case C-1042 about?"}],
        extra_headers={"X-Session-Id": "from-the-sdk"},
        extra_body={"forebay": {"retrieval": True}},
    )
    system, question = upstream.next().body["messages"]
    assert system["role"] == "system"
    assert question["content"].startswith("<documents>")
    with service.client() as plain:
        kept = plain.get("/sessions/from-the-sdk/messages").json()["messages"]
    assert [message["role"] for message in kept] == ["user", "assistant"]
    assert kept[0]["text"] == "What is case C-1042 about?"
