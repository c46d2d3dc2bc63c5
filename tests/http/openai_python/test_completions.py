"""OpenAI's own Python SDK against the running service, a client that nobody here wrote: answers, and leaving."""

import asyncio

import pytest

from tests.http.openai_python.calling import ASKED, ROUTE, SIM, in_async, rises
from tests.http.upstream import MODELS, ODD
from tests.process import KEY

# --- it works ------------------------------------------------------------------------------------------------------


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


# --- leaving -------------------------------------------------------------------------------------------------------


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
