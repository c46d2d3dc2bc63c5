"""Answers that follow a JSON Schema of the client's: only valid ones are sent, and a schema cannot be an attack."""

import json

import pytest
from jsonschema import Draft202012Validator

from service.errors import InvalidAnswer
from telemetry import catalogue as rows
from tests.flow.house import ROUTE, in_house
from tests.flow.tools import Asks, call

SCHEMA = {
    "type": "object",
    "properties": {
        "case_id": {"type": "string", "pattern": "^C-[0-9]+$"},
        "review_needed": {"type": "boolean"},
        "reasons": {"type": "array", "items": {"enum": ["a", "b", "c", "d"]}},
    },
    "required": ["case_id", "review_needed", "reasons"],
    "additionalProperties": False,
}
VALID = '{"case_id": "C-1042", "review_needed": true, "reasons": ["a"]}'


def asked(model="sim:ttft_ms=10,interval_ms=1", schema=SCHEMA, answers=None, **more):
    """Return a client's whole request, and the model that answered it."""

    async def scenario(house):
        if answers is not None:
            house.routes.add("simulated", Answers(*answers))
        client = await house.chat("Is a review of C-1042 needed?", model=model, ask={"response_schema": schema}, **more)
        return client, house

    return in_house(scenario)


class Answers(Asks):
    """A model that gives one answer after the other."""

    def __init__(self, *answers):
        super().__init__()
        self.answers = list(answers)

    async def stream(self, request):
        self.answer = self.answers.pop(0)
        async for said in super().stream(request):
            yield said


def test_an_answer_is_sent_in_one_piece_once_it_is_valid():
    client, _house = asked()
    assert client.types == ["message_start", "retrieval_completed", "token_delta", "message_completed"]
    assert [kind for kind, _ in client.events].count("token_delta") == 1
    Draft202012Validator(SCHEMA).validate(json.loads(client.text))


def test_what_was_sent_is_what_is_stored():
    async def scenario(house):
        client = await house.chat(ask={"response_schema": SCHEMA})
        assert (await house.message()).text == client.text

    in_house(scenario)


def test_an_answer_that_was_kept_back_says_nothing_of_the_first_token():
    _, house = asked()
    assert house.recorder.value(rows.TIME_TO_FIRST_TOKEN_SECONDS, ROUTE, "sim") == 0
    assert house.recorder.value(rows.FIRST_TOKEN_MISSED_TOTAL, ROUTE) == 0


def test_an_invalid_answer_is_told_to_the_model_which_mends_it():
    client, house = asked("sim:invalid_answers=1,ttft_ms=10,interval_ms=1")
    Draft202012Validator(SCHEMA).validate(json.loads(client.text))
    _first, second = house.model.calls
    assert second.messages[-2].content.startswith("The answer is")
    assert "was not valid: it is not JSON" in second.messages[-1].content
    assert client.types[-1] == "message_completed"


def test_after_two_invalid_answers_the_turn_ends_with_an_error_and_nothing_of_them_was_sent():
    client, house = asked("sim:invalid_answers=2,ttft_ms=10,interval_ms=1")
    assert client.types == ["message_start", "retrieval_completed", "error"]
    assert client.event("error")["code"] == "invalid_answer"
    assert b"The answer is" not in client.raw
    assert len(house.model.calls) == 2


@pytest.mark.parametrize(
    ("answer", "problem"),
    [
        ('{"case_id": "C-1042"}', "required"),
        ('{"case_id": "1042", "review_needed": true, "reasons": []}', "case_id"),
        ('{"case_id": "C-1", "review_needed": NaN, "reasons": []}', "not JSON"),
        (f"```json\n{VALID}\n```", "not JSON"),
        ("[" * 20_000, "not JSON"),
    ],
)
def test_the_model_is_told_what_is_wrong(answer, problem):
    async def scenario(house):
        model = Answers(answer, VALID)
        house.routes.add("simulated", model)
        client = await house.chat(ask={"response_schema": SCHEMA})
        assert client.text == VALID
        assert problem in model.requests[1].messages[-1].content

    in_house(scenario)


def test_mending_ends_with_the_generation_budget():
    client, _ = asked("sim:invalid_answers=1,ttft_ms=600,interval_ms=1", headers={"x-request-timeout-ms": "1000"})
    assert client.event("error")["code"] == "timeout"


def test_what_is_said_beside_a_call_of_a_tool_is_no_answer_and_not_sent():
    async def scenario(house):
        class Talks(Asks):
            async def stream(self, request):
                if request.round == 0:
                    yield ("Let me look that up.",)
                async for said in super().stream(request):
                    yield said

        house.routes.add("simulated", Talks([call("case_lookup", case_id="C-1042")], answer=VALID))
        client = await house.chat(ask={"response_schema": SCHEMA})
        assert client.text == VALID == (await house.message()).text
        assert client.event("tool_call_completed")["status"] == "completed"

    in_house(scenario)


def test_a_model_that_asks_for_tools_to_the_last_has_given_no_valid_answer():
    async def scenario(house):
        house.routes.add("simulated", Asks(*[[call("case_lookup", n, case_id="C-1")] for n in range(6)]))
        client = await house.chat(ask={"response_schema": SCHEMA})
        assert client.event("error")["code"] == "invalid_answer"
        assert client.text == ""

    in_house(scenario)


def test_a_client_that_leaves_before_the_answer_is_whole_leaves_no_half_of_it_behind():
    async def scenario(house):
        client = house.client(model="sim:ttft_ms=10,interval_ms=50", ask={"response_schema": SCHEMA})
        client.leave_in(0.5)
        await house.connect(client)
        message = await house.message()
        assert (message.status, message.text) == ("cancelled", "")

    in_house(scenario)


# --- schemas ------------------------------------------------------------------------------------------------------


def deep(levels):
    schema = {}
    for _ in range(levels - 1):
        schema = {"not": schema}
    return schema


@pytest.mark.parametrize(
    ("schema", "words"),
    [
        (deep(17), "at most 16 levels deep"),
        ({"description": "x" * 16_384}, "at most 16384 bytes"),
        ({"$ref": "https://example.org/schema.json"}, "may refer to itself only"),
        ({"properties": {"a": {"$ref": "other.json#/x"}}}, "may refer to itself only"),
        ({"allOf": [{"$dynamicRef": "file:///etc/passwd"}]}, "may refer to itself only"),
        ({"type": "objekt"}, "at $.type"),
        ({"required": "case_id"}, "at $.required"),
    ],
)
def test_a_schema_that_is_none_or_too_much_is_refused_before_the_stream(schema, words):
    client, house = asked(schema=schema)
    assert client.status == 422
    assert client.problem["code"] == "invalid_request"
    assert client.problem["detail"].startswith("response_schema: ")
    assert words in client.problem["detail"]
    assert not house.model.calls


@pytest.mark.parametrize("schema", [deep(16), {"$ref": "#/$defs/a", "$defs": {"a": {"type": "object"}}}, {}])
def test_a_schema_within_the_limits_is_taken(schema):
    client, _ = asked(schema=schema)
    assert client.status == 200


def test_schemas_of_clients_that_keep_their_checkers_busy_are_nothing_to_the_calls_of_tools():
    async def scenario(house):
        house.schemas.becomes(error=InvalidAnswer())
        refused = await house.chat(ask={"response_schema": SCHEMA})
        assert refused.problem["detail"] == "response_schema: cannot be checked"
        client = await house.chat("What of case C-1042?", model="sim:tool=case_lookup,ttft_ms=1,interval_ms=1")
        assert client.event("tool_call_completed")["status"] == "completed"

    in_house(scenario)
