"""OpenAI's own Python SDK against the running service: a client that nobody here wrote."""

import asyncio
from contextlib import ExitStack

import openai
import pytest
from openai import AsyncOpenAI, OpenAI
from pydantic import BaseModel

from tests.http.upstream import MODELS, ODD, Upstream, config
from tests.process import END, KEY, Service
from tests.support import until

ASKED = [{"role": "user", "content": "one two three"}]
SIM = "sim:ttft_ms=5,interval_ms=1,tokens=20"
ROUTE = "/v1/chat/completions"
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


@pytest.fixture(scope="module")
def provider():
    with Upstream() as running:
        yield running


@pytest.fixture
def upstream(provider):
    provider.forget()
    return provider


@pytest.fixture(scope="module")
def service(tmp_path_factory, provider):
    with Service(tmp_path_factory.mktemp("openai"), config(provider), environ={"UPSTREAM_KEY": "sk-up"}) as running:
        yield running


@pytest.fixture
def client(service):
    with OpenAI(base_url=f"{service.url}/v1", api_key=KEY, max_retries=0, timeout=END) as sdk:
        yield sdk


def in_async(service, scenario):
    """Run `scenario(client)` with the asynchronous client."""

    async def main():
        async with AsyncOpenAI(base_url=f"{service.url}/v1", api_key=KEY, max_retries=0, timeout=END) as sdk:
            return await scenario(sdk)

    return asyncio.run(main())


def rises(service, name, before, **labels):
    """Wait until a metric is above what it was."""
    until(lambda: service.metric(name, **labels) > before, what=f"{name} did not rise")


# --- it works -----------------------------------------------------------------------------------------------------


def test_a_completion_in_one_piece(client, upstream):
    answer = client.chat.completions.create(model="echo", messages=ASKED)
    assert answer.choices[0].message.content == "one two three "
    assert answer.choices[0].message.role == "assistant"
    assert answer.choices[0].finish_reason == "stop"
    assert (answer.model, answer.object) == ("echo", "chat.completion")
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens, answer.usage.total_tokens) == (11, 5, 16)
    assert answer.created > 1_700_000_000
    asked = upstream.next()
    assert asked.body["stream"] is True, "a stream can be closed, whatever the client asked for"
    assert asked.headers["authorization"] == "Bearer sk-up"
    assert KEY not in str(asked.headers)


def test_a_completion_as_a_stream(client, upstream):
    with client.chat.completions.create(
        model="echo", messages=ASKED, stream=True, stream_options={"include_usage": True}
    ) as stream:
        chunks = list(stream)
    upstream.next()
    assert [chunk.choices[0].delta.content for chunk in chunks if chunk.choices] == ["", "one ", "two ", "three ", None]
    assert chunks[0].choices[0].delta.role == "assistant"
    assert chunks[-2].choices[0].finish_reason == "stop"
    assert chunks[-1].usage.total_tokens == 16


def test_both_asynchronously_and_many_at_once(service):
    async def one(sdk, number):
        if number % 2:
            answer = await sdk.chat.completions.create(model=f"{SIM},seed={number}", messages=ASKED)
            return answer.usage.completion_tokens
        stream = await sdk.chat.completions.create(model=f"{SIM},seed={number}", messages=ASKED, stream=True)
        return len([chunk async for chunk in stream if chunk.choices[0].delta.content])

    async def many(sdk):
        return await asyncio.gather(*(one(sdk, number) for number in range(20)))

    assert in_async(service, many) == [20] * 20


def test_the_sdk_s_stream_helper_puts_the_answer_together(client):
    with client.chat.completions.stream(model=SIM, messages=ASKED) as stream:
        said = "".join(event.delta for event in stream if event.type == "content.delta")
        final = stream.get_final_completion()
    assert said == final.choices[0].message.content
    assert said


def test_the_models_are_listed_exactly_as_they_are_configured(client):
    assert [model.id for model in client.models.list()] == [*MODELS, ODD, "sim"]


def test_an_odd_model_id_is_passed_on_and_repeated_as_it_is(client, upstream):
    answer = client.chat.completions.create(model=ODD, messages=ASKED)
    assert answer.model == ODD
    assert answer.choices[0].message.content == "one two three "
    assert upstream.next().body["model"] == ODD


# --- what is passed on --------------------------------------------------------------------------------------------


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


# --- leaving ------------------------------------------------------------------------------------------------------


def test_closing_a_stream_early_closes_the_provider_s(client, service, upstream):
    before = service.metric("forebay_cancellations_total", route=ROUTE, cause="client_disconnect")
    with client.chat.completions.create(model="endless", messages=ASKED, stream=True) as stream:
        for chunk in stream:
            if chunk.choices[0].delta.content == "3 ":
                break
    upstream.next().wait_until_left()
    rises(service, "forebay_cancellations_total", before, route=ROUTE, cause="client_disconnect")


@pytest.mark.parametrize("model", ["no-headers", "no-chunk", "stalls"])
@pytest.mark.parametrize("stream", [False, True])
def test_giving_up_asynchronously_closes_the_provider_s_wherever_it_was(service, upstream, model, stream):
    async def scenario(sdk):
        async def ask():
            answer = await sdk.chat.completions.create(model=model, messages=ASKED, stream=stream)
            async for _ in answer:
                pass

        task = asyncio.create_task(ask())
        asked = await asyncio.to_thread(upstream.next)
        task.cancel()
        await asyncio.wait({task})
        await asyncio.to_thread(asked.wait_until_left)

    in_async(service, scenario)


# --- errors -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "status", "code", "how"),
    [
        (openai.NotFoundError, 404, "not_found", {"model": "none"}),
        (openai.BadRequestError, 400, "invalid_request", {"n": 2}),
        (openai.BadRequestError, 400, "invalid_request",
         {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "http://x/"}}]}]}),
        (openai.UnprocessableEntityError, 422, "invalid_request", {"messages": [{"role": "boss", "content": "x"}]}),
        (openai.UnprocessableEntityError, 422, "invalid_request", {"model": "sim:speed=9"}),
        (openai.InternalServerError, 502, "provider_error", {"model": "down"}),
        (openai.InternalServerError, 502, "provider_error", {"model": "wrong"}),
        (openai.InternalServerError, 503, "provider_rate_limited", {"model": "busy"}),
        (openai.InternalServerError, 502, "provider_error", {"model": "breaks"}),
        (openai.InternalServerError, 504, "timeout",
         {"model": "no-headers", "extra_headers": {"X-Request-Timeout-Ms": "200"}}),
    ],
)  # fmt: skip
def test_errors_are_of_the_classes_that_the_sdk_has_for_them(client, kind, status, code, how):
    with pytest.raises(kind) as caught:
        client.chat.completions.create(**{"model": "echo", "messages": ASKED, **how})
    error = caught.value
    assert (error.status_code, error.code) == (status, code)
    assert error.request_id == error.response.headers["x-request-id"]
    assert "swordfish" not in str(error), "what the provider said stays with us"
    if status == 503:
        assert int(error.response.headers["retry-after"]) >= 1


def test_a_wrong_key_is_an_authentication_error(service):
    with (
        OpenAI(base_url=f"{service.url}/v1", api_key="wrong", max_retries=0) as stranger,
        pytest.raises(openai.AuthenticationError),
    ):
        stranger.models.list()


def test_an_error_within_a_stream_is_raised_where_it_is_read(client):
    said = []
    with (
        client.chat.completions.create(model="breaks", messages=ASKED, stream=True) as stream,
        pytest.raises(openai.APIError) as caught,
    ):
        said.extend(chunk.choices[0].delta.content for chunk in stream)
    assert said == ["", "So ", "it "]
    assert caught.value.code == "provider_error"


@pytest.mark.parametrize(("method", "path", "status"), [("GET", "/v1/nothing", 404), ("POST", "/v1/models", 405)])
def test_what_is_no_route_is_told_in_openai_s_shape_too(service, method, path, status):
    with service.client() as plain:
        answer = plain.request(method, path)
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/json"
    assert set(answer.json()["error"]) == {"message", "type", "param", "code"}


def test_a_body_that_is_no_json_is_a_bad_request(service):
    with service.client() as plain:
        answer = plain.post(ROUTE, content=b"{", headers={"Content-Type": "application/json"})
    assert answer.status_code == 400
    assert answer.json()["error"]["type"] == "invalid_request_error"


def test_a_tenant_over_its_limits_gets_a_rate_limit_error_that_says_when_to_come_again(tmp_path, upstream):
    limits = "[limits]\ntenant_requests = 1\ntenant_queue = 1\n"
    with ExitStack() as stack:
        service = stack.enter_context(Service(tmp_path, config(upstream, limits), environ={"UPSTREAM_KEY": "k"}))
        sdk = stack.enter_context(OpenAI(base_url=f"{service.url}/v1", api_key=KEY, max_retries=0, timeout=END))
        stack.enter_context(sdk.chat.completions.create(model="stalls", messages=ASKED, stream=True))
        upstream.next()

        async def two(patient):
            waiting = asyncio.create_task(patient.chat.completions.create(model="echo", messages=ASKED))
            while not await asyncio.to_thread(service.metric, "forebay_admission_queue_depth", resource="requests"):
                await asyncio.sleep(0)
            with pytest.raises(openai.RateLimitError) as caught:
                await patient.chat.completions.create(model="echo", messages=ASKED)
            waiting.cancel()
            return caught.value

        error = in_async(service, two)
    assert error.code == "rate_limited"
    assert int(error.response.headers["retry-after"]) >= 1
