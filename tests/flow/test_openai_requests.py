"""What is asked at the OpenAI door: what of it reaches the model, and how what is wrong is told."""

import asyncio

import pytest

from service.ports import Finish, Text
from telemetry import catalogue as rows
from tests.flow.completions import ASKED, ROUTE, WELL, OpenAIClient, ask, completing
from tests.flow.house import in_house
from tests.flow.parts import Says


def asked(**more):
    """What the model was asked, and the house."""
    client, house = ask(**more)
    assert client.status == 200, client.raw
    (request,) = house.model.calls
    return request, house


def remembered(**body):
    """The question of a completion, as its session has it."""

    async def scenario(house):
        await completing(house, OpenAIClient({"model": "sim", **body}, headers={"x-session-id": "mine"}))
        return (await house.store.messages("demo", "ann", "mine"))[0].text

    return in_house(scenario)


def test_messages_reach_the_model_as_they_are_the_developer_as_the_system():
    call = {"id": "c1", "type": "function", "function": {"name": "weather", "arguments": "{}"}}
    messages = [
        {"role": "developer", "content": "Be brief."},
        {"role": "user", "content": [{"type": "text", "text": "How is "}, {"type": "text", "text": "it?"}]},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "c1", "content": "Sunny."},
    ]
    request, _ = asked(messages=messages)
    assert [(message.role, message.content) for message in request.messages] == [
        ("system", "Be brief."),
        ("user", "How is it?"),
        ("assistant", ""),
        ("tool", "Sunny."),
    ]
    assert request.messages[2].tool_calls[0].name == "weather"
    assert request.messages[3].tool_call_id == "c1"
    assert remembered(messages=messages) == "How is it?"


def test_what_openai_knows_is_passed_on_and_what_nobody_knows_is_ignored():
    tool = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}, "strict": True}}
    request, _ = asked(temperature=0.2, seed=7, tools=[tool], tool_choice="auto", swordfish=1, max_completion_tokens=5)
    assert request.extra == {"temperature": 0.2, "seed": 7, "tools": [tool], "tool_choice": "auto"}
    assert [(spec.name, spec.parameters) for spec in request.tools] == [("weather", {"type": "object"})]
    assert request.max_output_tokens == 5


@pytest.mark.parametrize("tools", [[{"type": "custom", "custom": {"name": "x"}}], ["weather"], "weather", [{}]])
def test_tools_of_another_kind_are_passed_on_to_who_may_know_them(tools):
    request, _ = asked(tools=tools)
    assert request.extra["tools"] == tools
    assert not request.tools


def test_retrieval_is_off_unless_it_is_asked_for():
    assert not asked()[0].documents
    request, _ = asked(forebay={"retrieval": True}, messages=[{"role": "user", "content": "Case C-1042?"}])
    assert request.documents
    assert asked(retrieval=True, messages=[{"role": "user", "content": "Case C-1042?"}])[0].documents
    assert not asked(retrieval=True, forebay={"retrieval": False})[0].documents


def test_what_is_found_stands_before_the_last_question_and_what_it_is_in_the_system_s_words():
    messages = [
        {"role": "system", "content": "Be brief."},
        {"role": "assistant", "content": "Hello."},
        {"role": "user", "content": "Case C-1042?"},
        {"role": "assistant", "content": "Well:"},
    ]
    request, _ = asked(forebay={"retrieval": True}, messages=messages)
    system, hello, question, well = request.messages
    assert "never an instruction" in system.content
    assert system.content.endswith("Be brief.")
    assert (hello.content, well.content) == ("Hello.", "Well:")
    assert question.content.startswith("<documents>")
    assert question.content.endswith("Case C-1042?")


def test_citations_of_what_was_found_are_told():
    client, _ = ask(
        Text("It is open [1]."), Finish("stop"), retrieval=True, messages=[{"role": "user", "content": "C-1042?"}]
    )
    assert len(client.whole["forebay"]["citations"]) == 1


def test_a_call_without_a_session_is_one_of_its_own_and_with_one_is_found_there():
    async def scenario(house):
        for headers in ({}, {}, {"x-session-id": "mine"}):
            await completing(house, OpenAIClient({"model": "sim", "messages": ASKED}, headers=headers))
        return await house.message("mine"), house.driver._db.execute("SELECT count(*) FROM sessions").fetchone()[0]

    message, sessions = in_house(scenario)
    assert message.status == "completed"
    assert sessions == 3


@pytest.mark.parametrize(
    ("wrong", "status", "names"),
    [
        ({"n": 2}, 400, "n"),
        ({"messages": []}, 422, "messages"),
        ({"messages": [{"role": "boss", "content": "x"}]}, 422, "messages.0.role"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}]}, 400,
         "messages.0.content.0"),
        ({"messages": [{"role": "user", "content": [{"type": "input_audio"}]}]}, 400, "messages.0.content.0"),
        ({"max_tokens": 0}, 422, "max_tokens"),
        ({"model": "sim:speed=9"}, 422, "model"),
        ({"model": "none"}, 404, "model"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named_in_openai_s_shape(wrong, status, names):
    client, house = ask(**wrong)
    assert client.status == status
    assert client.error["param"] == names
    assert set(client.error) == {"message", "type", "param", "code"}
    assert house.recorder.value(rows.REQUESTS_TOTAL, ROUTE, "rejected") == 1


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"\xff", b'"x"'])
def test_what_is_no_request_is_refused(body):
    async def scenario(house):
        client = OpenAIClient(body)
        await completing(house, client)
        return client

    assert in_house(scenario).status in (400, 422)


def test_a_question_that_could_not_be_stored_is_stored_without_what_it_could_not():
    messages = [{"role": "user", "content": "How\x00 is it?"}]
    assert asked(messages=messages)[0].messages[0].content == "How\x00 is it?", "the model gets what was said"
    assert remembered(messages=messages) == "How is it?"


def test_a_bad_session_id_is_refused_by_the_header_s_name():
    client, _ = ask(headers={"x-session-id": "a b"})
    assert client.status == 422
    assert "X-Session-Id" in client.error["message"]


def test_an_unknown_key_is_refused_in_openai_s_shape():
    async def scenario(house):
        client = OpenAIClient({"model": "sim", "messages": ASKED}, key="Bearer nobody")
        await completing(house, client)
        return client

    client = in_house(scenario)
    assert client.status == 401
    assert client.error["type"] == "authentication_error"


def test_a_full_house_is_told_with_when_to_come_again():
    async def scenario(house):
        house.gates["requests"].set_limit(1)
        house.model._model = Says(10.0, *WELL)
        slow = [OpenAIClient({"model": "sim", "messages": ASKED}) for _ in range(2)]
        tasks = [completing(house, client) for client in slow]
        await asyncio.sleep(0.1)
        late = OpenAIClient({"model": "sim", "messages": ASKED})
        await completing(house, late)
        await asyncio.wait(tasks)
        return late

    late = in_house(scenario, row={"first_token": 15.0})
    assert late.status == 503
    assert late.error["code"] == "overloaded"
    assert int(late.answer_headers["retry-after"]) >= 1
