"""The OpenAI door over the same flow, in virtual time: every byte of its answers, and what they are counted as."""

import asyncio
import json
from dataclasses import dataclass
from functools import partial

import pytest

from service.api.openai_compat import OpenAIDoor
from service.errors import ProviderFailure
from service.ports import Finish, Text, ToolCallDelta, Usage
from service.providers.failures import from_status
from service.providers.rows import ProviderRow
from telemetry import catalogue as rows
from tests.flow.client import Client
from tests.flow.house import in_house
from tests.flow.parts import Says

ROUTE = "/v1/chat/completions"
WELL = (Text("All is "), Text("well."), Finish("stop"), Usage(7, 3))
ASKED = [{"role": "user", "content": "How is it?"}]


@dataclass
class OpenAIClient(Client):
    """Reads OpenAI's wire format."""

    @property
    def lines(self):
        """Every line of the stream that is not empty."""
        return [line for line in self.raw.decode().split("\n") if line]

    @property
    def chunks(self):
        return [json.loads(line.removeprefix("data: ")) for line in self.lines if line.startswith("data: {")]

    @property
    def deltas(self):
        return [chunk["choices"][0]["delta"] for chunk in self.chunks if chunk.get("choices")]

    @property
    def said(self):
        return "".join(delta.get("content") or "" for delta in self.deltas)

    @property
    def whole(self):
        assert self.answer_headers["content-type"] == "application/json"
        return json.loads(self.raw)

    @property
    def error(self):
        return self.whole["error"]

    def assert_sound(self):
        if self.status == 200 and self.lines and self.lines[0].startswith(("data:", ":")) and self.ended:
            last = self.lines[-1]
            assert ("error" in json.loads(last[6:])) if last.startswith("data: {") else last == "data: [DONE]"


def completing(house, client, *, retrieval=False):
    return house.connect(client, partial(OpenAIDoor, world=house.world, retrieval=retrieval))


def ask(*deltas, rows=None, headers=None, retrieval=False, **body):
    """One completion of a model that answers so; return the client and the house."""

    async def scenario(house):
        if deltas:
            house.model._model = Says(*deltas)
        client = OpenAIClient({"model": "sim", "messages": ASKED, **body}, headers=headers or {})
        await completing(house, client, retrieval=retrieval)
        return client, house

    return in_house(scenario, rows=rows)


# --- streamed -----------------------------------------------------------------------------------------------------


def test_a_stream_begins_with_the_role_and_ends_with_the_reason_and_done():
    client, house = ask(*WELL, stream=True)
    assert client.status == 200
    assert client.answer_headers["content-type"].startswith("text/event-stream")
    assert client.deltas == [{"role": "assistant", "content": ""}, {"content": "All is "}, {"content": "well."}, {}]
    assert [chunk["choices"][0]["finish_reason"] for chunk in client.chunks] == [None, None, None, "stop"]
    assert client.lines[-1] == "data: [DONE]"
    assert len({(chunk["id"], chunk["object"], chunk["created"], chunk["model"]) for chunk in client.chunks}) == 1
    assert client.chunks[0]["object"] == "chat.completion.chunk"
    assert house.recorder.value(rows.REQUESTS_TOTAL, ROUTE, "completed") == 1
    assert house.recorder.value(rows.TIME_TO_FIRST_TOKEN_SECONDS, ROUTE, "sim") == 1


def test_usage_comes_in_a_last_chunk_without_choices_when_it_is_asked_for():
    client, _ = ask(*WELL, stream=True, stream_options={"include_usage": True})
    *others, last = client.chunks
    assert last["choices"] == []
    assert last["usage"] == {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10}
    assert all(chunk["usage"] is None for chunk in others)
    assert "usage" not in ask(*WELL, stream=True)[0].chunks[-1]


def test_a_model_s_id_is_repeated_exactly_whatever_is_in_it():
    name = 'vendor/100%s "modèle" {0}'
    client, _ = ask(*WELL, rows=(ProviderRow("up", "openai_compatible", (name,)),), stream=True, model=name)
    assert {chunk["model"] for chunk in client.chunks} == {name}
    assert client.said == "All is well."


def test_text_that_looks_like_the_frame_stays_text():
    text = 'say "\\u0000", %b and \x00: 100 % {"delta"}'
    client, _ = ask(Text(text), Text("\u2028"), Finish("stop"), stream=True)
    assert client.said == text + "\u2028"


def test_calls_of_the_client_s_tools_are_streamed_and_their_reason_told():
    call = ToolCallDelta(0, "call_1", "weather", '{"city":')
    client, _ = ask(call, ToolCallDelta(0, arguments=' "Ulm"}'), Finish("tool_calls"), stream=True)
    calls = [delta["tool_calls"] for delta in client.deltas if "tool_calls" in delta]
    function = {"name": "weather", "arguments": '{"city": "Ulm"}'}
    assert calls == [[{"index": 0, "id": "call_1", "type": "function", "function": function}]]
    assert client.chunks[-1]["choices"][0]["finish_reason"] == "tool_calls"


def test_an_error_after_the_start_is_told_in_the_stream_which_then_is_not_done():
    client, house = ask(Text("So "), from_status(500), stream=True)
    assert client.status == 200
    assert client.chunks[-1]["error"]["code"] == "provider_error"
    assert client.chunks[-1]["error"]["type"] == "server_error"
    assert "data: [DONE]" not in client.lines
    assert house.requests("errored") == 1


def test_a_silent_stream_is_kept_alive_by_comments():
    client, _ = ask(
        2.0, Text("So "), 4.0, Text("it "), 4.0, Text("is."), 4.9, *WELL,
        stream=True, rows=(ProviderRow("up", "openai_compatible", ("sim",), first_token=19.0, generation=25.0),),
    )  # fmt: skip
    assert client.said == "So it is.All is well."
    client, _ = ask(
        16.0, *WELL,
        stream=True, rows=(ProviderRow("up", "openai_compatible", ("sim",), first_token=19.0, generation=25.0),),
    )  # fmt: skip
    assert client.lines[1] == ": keep-alive"


def test_a_warning_is_told_where_clients_do_not_look_and_nobody_is_left_in_the_dark():
    first = ProviderRow("first", "openai_compatible", ("large",), max_attempts=1, fallback="second")
    second = ProviderRow("second", "openai_compatible", ("small",), approved_fallback=True)

    async def scenario(house, *, stream):
        house.models["first"]._model, house.models["second"]._model = Says(from_status(500)), Says(*WELL)
        client = OpenAIClient({"model": "large", "messages": ASKED, "stream": stream})
        await completing(house, client)
        return client

    streamed = in_house(partial(scenario, stream=True), rows=(first, second))
    assert streamed.said == "All is well."
    (warning,) = [chunk["forebay"]["warning"] for chunk in streamed.chunks if "forebay" in chunk]
    assert warning["code"] == "model_fallback"
    whole = in_house(partial(scenario, stream=False), rows=(first, second)).whole
    assert whole["model"] == "large"
    assert [warning["code"] for warning in whole["forebay"]["warnings"]] == ["model_fallback"]


# --- in one piece -------------------------------------------------------------------------------------------------


def test_a_completion_in_one_piece_is_assembled_from_the_stream():
    client, house = ask(*WELL)
    assert client.status == 200
    whole = client.whole
    assert whole["object"] == "chat.completion"
    (choice,) = whole["choices"]
    assert choice["message"] == {"role": "assistant", "content": "All is well.", "refusal": None}
    assert choice["finish_reason"] == "stop"
    assert whole["usage"] == {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10}
    assert "forebay" not in whole
    assert house.recorder.value(rows.TIME_TO_FIRST_TOKEN_SECONDS, ROUTE, "sim") == 0, "nobody saw a first token"


def test_calls_of_the_client_s_tools_are_part_of_the_message():
    client, _ = ask(ToolCallDelta(0, "call_1", "weather", "{}"), Finish("tool_calls"))
    (choice,) = client.whole["choices"]
    assert choice["finish_reason"] == "tool_calls"
    assert choice["message"]["content"] is None
    assert choice["message"]["tool_calls"][0]["function"] == {"name": "weather", "arguments": "{}"}


@pytest.mark.parametrize(
    ("deltas", "status", "code", "kind"),
    [
        ((from_status(400),), 502, "provider_error", "server_error"),
        ((Text("So "), ProviderFailure("malformed")), 502, "provider_error", "server_error"),
        ((from_status(429, retry_after=99.0),), 503, "provider_rate_limited", "server_error"),
        ((60.0,), 504, "timeout", "server_error"),
        ((Text("So "), Finish("content_filter")), 422, "content_filtered", "invalid_request_error"),
        ((Finish("stop"),), 502, "invalid_answer", "server_error"),
    ],
    ids=["refused", "cut", "too many", "silent", "filtered", "empty"],
)
def test_a_failure_in_one_piece_has_its_true_status(deltas, status, code, kind):
    client, _ = ask(*deltas)
    assert client.status == status
    assert (client.error["code"], client.error["type"]) == (code, kind)
    assert client.answer_headers.get("retry-after") == ("99" if status == 503 else None)


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("after", [1.0, 3.1])
def test_a_client_that_leaves_cancels_its_turn_streamed_or_not(stream, after):
    async def scenario(house):
        house.model._model = Says(2.0, Text("So "), 3.0, *WELL)
        client = OpenAIClient({"model": "sim", "messages": ASKED, "stream": stream})
        client.leave_in(after)
        await completing(house, client)
        return house

    house = in_house(scenario)
    phase = "model.first_token" if after < 2 else "model.tokens"
    assert house.recorder.value(rows.CANCELLATIONS_TOTAL, ROUTE, "client_disconnect", phase) == 1
    assert house.recorder.value(rows.CLIENT_DISCONNECTS_TOTAL, ROUTE, phase) == 1


# --- what is asked ------------------------------------------------------------------------------------------------


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
