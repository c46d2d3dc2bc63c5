"""When a model does not answer, the one that was approved for it does, and everybody is told."""

import asyncio
from dataclasses import replace

import pytest

from service.errors import ProviderFailure
from service.ports import Finish, Text, ToolCallDelta, Usage
from service.providers.failures import from_status, malformed
from service.providers.prompt import estimate_tokens
from service.providers.rows import ProviderRow
from service.runtime.circuit import State
from telemetry import catalogue as rows
from telemetry.catalogue import Attr
from tests.flow.house import in_house
from tests.flow.parts import InTurn, Says

FIRST = ProviderRow("first", "openai_compatible", ("large",), max_attempts=1, fallback="second")
SECOND = ProviderRow("second", "openai_compatible", ("small",), approved_fallback=True, first_token=9.0)
WELL = (Text("All is "), Text("well."), Finish("stop"), Usage(7, 3))


def talk(first, second=WELL, *, row=FIRST, **client):
    """One turn with two providers that answer so; return the client and the house."""

    async def scenario(house):
        house.models["first"]._model = Says(*first)
        house.models["second"]._model = Says(*second)
        return await house.chat(model="large", **client), house

    return in_house(scenario, rows=(row, SECOND))


def test_the_fallback_answers_with_a_warning_and_the_turn_is_degraded():
    client, house = talk([from_status(500)])
    assert client.text == "All is well."
    assert client.types == ["message_start", "retrieval_completed", "warning", "token_delta", "message_completed"]
    assert client.event("message_start")["model"] == "large", "what was asked for"
    warning = client.event("warning")
    assert warning["code"] == "model_fallback"
    assert "large" in warning["message"]
    assert "small" in warning["message"]
    assert house.requests("degraded") == 1
    assert house.recorder.value(rows.DEGRADATIONS_TOTAL, "model") == 1


def test_everything_is_counted_to_the_model_that_answered():
    _, house = talk([from_status(500)])
    seen = house.recorder
    assert seen.value(rows.GENERATED_TOKENS_TOTAL, "small", "degraded") == 3
    assert seen.value(rows.PROMPT_TOKENS_TOTAL, "small") == 7
    assert seen.value(rows.GENERATED_TOKENS_TOTAL, "large") == seen.value(rows.PROMPT_TOKENS_TOTAL, "large") == 0
    assert seen.value(rows.TIME_TO_FIRST_TOKEN_SECONDS, "/chat/stream", "small") == 1
    assert seen.value(rows.STREAM_DURATION_SECONDS, "small", "degraded") == 1
    assert seen.value(rows.PROVIDER_FIRST_TOKEN_SECONDS, "second", "small") == 1
    assert seen.value(rows.PROVIDER_REQUESTS_TOTAL, "first", "5xx") == 1
    assert seen.value(rows.PROVIDER_REQUESTS_TOTAL, "second", "ok") == 1
    phase = seen.span("model.stream")
    assert (phase["attributes"][Attr.FALLBACK], phase["attributes"][Attr.ATTEMPTS]) == (True, 2)
    assert phase["status"] == "UNSET"
    assert [span["attributes"][Attr.ATTEMPT] for span in (*seen.named("chat large"), *seen.named("chat small"))] == [
        1,
        2,
    ]


def test_the_fallback_is_asked_for_its_own_model():
    _, house = talk([from_status(500)])
    (asked,) = house.models["second"].calls
    assert asked.model == "small"


@pytest.mark.parametrize("failure", [malformed(), from_status(401), from_status(404), ProviderFailure("connect")])
def test_what_is_not_worth_another_try_may_be_worth_another_provider(failure):
    client, _ = talk([failure])
    assert client.warnings() == ["model_fallback"]


@pytest.mark.parametrize("status", [400, 413, 422])
def test_a_request_that_is_wrong_by_itself_is_not_passed_on(status):
    client, house = talk([from_status(status)])
    assert client.event("error")["code"] == "provider_error"
    assert not house.models["second"].calls


@pytest.mark.parametrize("begun", [Text("So "), ToolCallDelta(0, "c", "t", "{")])
def test_once_the_model_has_begun_nobody_stands_in_for_it(begun):
    client, house = talk([begun, from_status(500)])
    assert client.event("error")["code"] == "provider_error"
    assert not client.warnings()
    assert not house.models["second"].calls


def test_the_first_provider_has_three_fifths_of_the_first_token_s_budget_and_the_fallback_the_rest():
    async def scenario(house):
        house.models["first"]._model, house.models["second"]._model = Says(60.0), Says(1.1, *WELL)
        return await house.chat(model="large"), house

    client, house = in_house(scenario, rows=(FIRST, SECOND))
    assert client.text == "All is well."
    (first,) = house.recorder.named("chat large")
    assert first["attributes"][Attr.ERROR_TYPE] == "timeout"
    assert house.recorder.total(rows.PHASE_DURATION_SECONDS, "model.stream") == pytest.approx(1.8 + 1.1)
    assert house.recorder.value(rows.PROVIDER_REQUESTS_TOTAL, "first", "timeout") == 1
    assert house.recorder.value(rows.TIMEOUTS_TOTAL) == 0


def test_both_together_never_have_more_than_the_budget():
    client, house = talk([60.0], [60.0])
    assert client.event("error")["code"] == "timeout"
    assert house.recorder.total(rows.PHASE_DURATION_SECONDS, "model.stream") == pytest.approx(3.0)
    assert house.recorder.value(rows.TIMEOUTS_TOTAL, "model.first_token", "phase") == 1
    assert house.recorder.value(rows.PROVIDER_REQUESTS_TOTAL, "second", "timeout") == 1


def test_a_first_provider_that_answers_within_its_share_keeps_the_whole_of_its_time():
    client, _ = talk([1.7, Text("So "), 4.0, *WELL])
    assert client.text == "So All is well."
    assert not client.warnings()


def test_the_first_provider_is_tried_again_only_within_its_share():
    row = replace(FIRST, max_attempts=9)
    client, house = talk([from_status(429, retry_after=1.0)], row=row)
    assert client.warnings() == ["model_fallback"]
    assert house.recorder.value(rows.PROVIDER_RETRIES_TOTAL, "first") == 1
    assert house.recorder.value(rows.PROVIDER_RETRIES_DENIED_TOTAL, "first", "deadline") == 1


def test_the_fallback_is_tried_again_too():
    async def scenario(house):
        house.models["first"]._model = Says(from_status(500))
        house.models["second"]._model = InTurn([from_status(503)], WELL)
        return await house.chat(model="large"), house

    client, house = in_house(scenario, rows=(FIRST, SECOND))
    assert client.text == "All is well."
    assert house.recorder.value(rows.PROVIDER_RETRIES_TOTAL, "second", "5xx") == 1


def test_if_both_fail_it_is_one_error():
    client, house = talk([from_status(500)], [from_status(429)])
    assert client.event("error")["code"] == "provider_rate_limited"
    assert client.warnings() == ["model_fallback"]
    assert house.requests("errored") == 1


async def open_circuit(house, name):
    circuit = house.routes.choose({"first": "large", "second": "small"}[name]).circuit
    now = asyncio.get_running_loop().time()
    for _ in range(20):
        circuit.attempt(now).end(now, failed=True)
    assert house.recorder.value(rows.PROVIDER_CIRCUIT_STATE, name) == State.OPEN


def test_behind_an_open_circuit_the_fallback_answers_at_once():
    async def scenario(house):
        house.models["second"]._model = Says(*WELL)
        await open_circuit(house, "first")
        return await house.chat(model="large"), house

    client, house = in_house(scenario, rows=(FIRST, SECOND))
    assert client.text == "All is well."
    assert client.warnings() == ["model_fallback"]
    assert not house.models["first"].calls
    assert house.recorder.value(rows.PROVIDER_REQUESTS_TOTAL, "first") == 0, "nobody was asked there"


def test_with_both_circuits_open_the_request_is_refused():
    async def scenario(house):
        await open_circuit(house, "first")
        await open_circuit(house, "second")
        return await house.chat(model="large")

    assert in_house(scenario, rows=(FIRST, SECOND)).status == 503


def test_a_fallback_whose_circuit_is_open_is_not_waited_for():
    async def scenario(house):
        house.models["first"]._model = Says(2.5, *WELL)  # more than three fifths
        await open_circuit(house, "second")
        return await house.chat(model="large")

    client = in_house(scenario, rows=(FIRST, SECOND))
    assert client.text == "All is well."
    assert not client.warnings()


def test_a_client_with_little_patience_still_leaves_the_first_provider_its_share():
    client, _ = talk([0.5, *WELL], headers={"x-request-timeout-ms": "1000"})
    assert client.text == "All is well."
    assert not client.warnings()


CALL = ToolCallDelta(0, "c", "case_lookup", '{"case_id": "C-1042"}')


def test_who_stood_in_goes_on_after_the_tools():
    async def scenario(house):
        house.models["first"]._model = Says(from_status(500))
        house.models["second"]._model = InTurn([CALL, Finish("tool_calls"), Usage(5, 2)], WELL)
        return await house.chat(model="large"), house

    client, house = in_house(scenario, rows=(FIRST, SECOND))
    assert client.text == "All is well."
    assert client.warnings() == ["model_fallback"], "once"
    assert len(house.models["first"].calls) == 1
    assert [asked.model for asked in house.models["second"].calls] == ["small", "small"]
    assert client.event("message_completed")["usage"] == {"prompt_tokens": 12, "generated_tokens": 5}


def test_after_text_of_an_earlier_round_nobody_stands_in():
    async def scenario(house):
        house.models["first"]._model = InTurn([Text("Let me see. "), CALL, Finish("tool_calls")], [from_status(500)])
        return await house.chat(model="large"), house

    client, house = in_house(scenario, rows=(FIRST, SECOND))
    assert client.event("error")["code"] == "provider_error"
    assert not house.models["second"].calls


def test_tokens_of_two_models_in_one_turn_are_counted_to_each():
    async def scenario(house):
        house.models["first"]._model = InTurn([CALL, Finish("tool_calls"), Usage(50, 20)], [from_status(500)])
        house.models["second"]._model = Says(Text("All "), Text("is well."), Finish("stop"))  # counts nothing itself
        return await house.chat(model="large"), house

    client, house = in_house(scenario, rows=(FIRST, SECOND))
    assert client.event("message_completed")["usage"] == {"prompt_tokens": 50, "generated_tokens": 22}
    assert house.recorder.value(rows.GENERATED_TOKENS_TOTAL, "large", "degraded") == 20
    assert house.recorder.value(rows.GENERATED_TOKENS_TOTAL, "small", "degraded") == 2


def test_a_fallback_with_a_smaller_context_gets_a_prompt_that_fits():
    async def scenario(house):
        house.models["first"]._model = Says(from_status(500))
        house.models["second"]._model = Says(*WELL)
        await house.chat(model="large")
        return house

    small = replace(SECOND, context_tokens=300)
    house = in_house(scenario, rows=(FIRST, small))
    (before,), (after,) = house.models["first"].calls, house.models["second"].calls

    def size(request):
        return sum(estimate_tokens(message.content) + 5 for message in request.messages)

    assert size(before) > 300 >= size(after)
    assert after.messages[0].content[:20] == before.messages[0].content[:20]
    assert after.messages[-1].content.endswith("What is case C-1042 about?")
