"""The OpenAI door over the same flow, in virtual time: every byte of its answers, and what they are counted as."""

from functools import partial

import pytest

from service.errors import ProviderFailure
from service.ports import Finish, Text, ToolCallDelta
from service.providers.failures import from_status
from service.providers.rows import ProviderRow
from telemetry import catalogue as rows
from tests.flow.completions import ASKED, ROUTE, WELL, OpenAIClient, ask, completing
from tests.flow.house import in_house
from tests.flow.parts import Says

# --- streamed ------------------------------------------------------------------------------------------------------


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


# --- in one piece --------------------------------------------------------------------------------------------------


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
