"""Bad input: each is a clear refusal that names the field and never repeats its value, before anything is done."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from telemetry import catalogue as rows
from tests.flow.house import ROUTE, House, in_house
from tests.support import proof_count
from tests.virtual_loop import run

SECRET = "swordfish"


def body(**fields):
    """A good body with other fields."""
    return json.dumps({"session_id": "s1", "message": "Hello?", **fields}).encode()


def without(name):
    return json.dumps({k: v for k, v in {"session_id": "s1", "message": SECRET}.items() if k != name}).encode()


def nested(depth):
    return b'{"session_id": "s1", "message": "m", "x": ' + b"[" * depth + b"]" * depth + b"}"


BAD = {
    "nothing": (b"", 400, "JSON"),
    "no JSON": (b"message=swordfish", 400, "JSON"),
    "cut JSON": (body(message=SECRET)[:-3], 400, "JSON"),
    "two JSONs": (body() + body(), 400, "JSON"),
    "single quotes": (b"{'session_id': 's1', 'message': 'swordfish'}", 400, "JSON"),
    "invalid UTF-8": (b'{"session_id": "s1", "message": "swordfish \xff\xfe"}', 400, "JSON"),
    "overlong UTF-8": (b'{"session_id": "s1", "message": "swordfish \xc0\x80"}', 400, "JSON"),
    "UTF-16": (body(message=SECRET).decode().encode("utf-16"), 400, "JSON"),
    "a lone surrogate": (rb'{"session_id": "s1", "message": "swordfish \ud800"}', 400, "JSON"),
    "half a pair of surrogates": (rb'{"session_id": "s1", "message": "\ude00\ud83d swordfish"}', 400, "JSON"),
    "a raw control character": (b'{"session_id": "s1", "message": "swordfish\x01"}', 400, "JSON"),
    "deep JSON": (nested(10_000), 400, "JSON"),
    "a list": (b'["swordfish"]', 422, "body"),
    "a string": (b'"swordfish"', 422, "body"),
    "null": (b"null", 422, "body"),
    "no session": (without("session_id"), 422, "session_id"),
    "no message": (without("message"), 422, "message"),
    "an unknown field": (body(temperature=SECRET), 422, "temperature"),
    "a message that is a number": (body(message=12345), 422, "message"),
    "a message that is a list": (body(message=[SECRET]), 422, "message"),
    "a message that is null": (body(message=None), 422, "message"),
    "an empty message": (body(message=""), 422, "message"),
    "a message that is too long": (body(message=SECRET + "x" * 33_000), 422, "message"),
    "a message with NUL": (body(message=SECRET + "\0"), 422, "message"),
    "a session that is a number": (body(session_id=7), 422, "session_id"),
    "an empty session": (body(session_id=""), 422, "session_id"),
    "a session that is too long": (body(session_id=SECRET * 20), 422, "session_id"),
    "a session with a space": (body(session_id=f"{SECRET} 1"), 422, "session_id"),
    "a session with a line break": (body(session_id=f"{SECRET}\n"), 422, "session_id"),
    "a session with an escape": (body(session_id=f"{SECRET}\x1b[31m"), 422, "session_id"),
    "a session with a slash": (body(session_id=f"../{SECRET}"), 422, "session_id"),
    "a session of other letters": (body(session_id=f"{SECRET}é"), 422, "session_id"),
    "a model that is a number": (body(model=1), 422, "model"),
    "a model that is too long": (body(model=SECRET * 40), 422, "model"),
    "a grounding that is unknown": (body(grounding=SECRET), 422, "grounding"),
    "a flag that is text": (body(background="true"), 422, "background"),
    "a schema that is a list": (body(response_schema=[SECRET]), 422, "response_schema"),
    "an unknown parameter": (body(model=f"sim:wings={SECRET}"), 422, "wings"),
    "a parameter out of range": (body(model="sim:tokens=999999"), 422, "tokens"),
}


def assert_refused(house, client, status, word):
    """A clear refusal, counted as invalid, with nothing done and nothing repeated."""
    assert client.status == status
    assert client.problem["code"] == "invalid_request"
    assert word in client.problem["detail"]
    assert len(client.raw) < 700
    assert SECRET.encode() not in client.raw
    assert SECRET not in str(house.recorder.spans) + str(house.recorder.logs)
    assert house.recorder.value(rows.REJECTIONS_TOTAL, ROUTE, "invalid") == house.requests("rejected")
    assert house.statuses() == {}
    assert not house.model.calls


@pytest.mark.parametrize("what", BAD)
def test_bad_input_is_refused_with_the_name_of_what_is_wrong_and_without_its_value(what):
    sent, status, word = BAD[what]

    async def scenario(house):
        client = await house.chat(body=sent)
        assert_refused(house, client, status, word)

    in_house(scenario)


@pytest.mark.parametrize("sent", [nested(100_000), body(response_schema={"enum": [[]] * 20_000})])
def test_a_body_of_too_many_values_is_refused_before_it_is_read(sent):
    async def scenario(house):
        client = await house.chat(body=sent)
        assert (client.status, client.problem["code"]) == (413, "too_large")
        assert house.recorder.value(rows.REJECTIONS_TOTAL, ROUTE, "too_large") == 1

    in_house(scenario)


@pytest.mark.parametrize(
    "header",
    ["", "0", "-5", "1.5", "1e3", " 100", "100ms", "soon", "NaN", "٣", "²", "9" * 400, "9" * 6000, "swordfish"],
)
def test_a_time_limit_that_is_no_whole_number_of_milliseconds_is_refused(header):
    async def scenario(house):
        client = await house.chat(headers={"x-request-timeout-ms": header.encode().decode("latin-1")})
        assert_refused(house, client, 422, "X-Request-Timeout-Ms")

    in_house(scenario)


def test_an_unknown_model_is_not_found_and_what_was_asked_for_is_not_repeated():
    async def scenario(house):
        client = await house.chat(model=f"{SECRET}\x1b[31m\n")
        assert client.status == 404
        assert SECRET.encode() not in client.raw

    in_house(scenario)


def test_the_longest_body_of_a_turn_is_taken_however_it_is_escaped_and_a_longer_one_is_not_read():
    longest = ("\\ud83d\\ude00" * 32_000).encode()

    async def scenario(house):
        sent = b'{"session_id": "s1", "model": "sim:tokens=3", "message": "%s"%s}'
        whole = await house.chat(body=sent % (longest, b" " * 16_000))
        refused = await house.chat(body=sent % (longest, b" " * 200_000))
        assert whole.types[-1] == "message_completed"
        assert (refused.status, refused.problem["code"]) == (413, "too_large")

    in_house(scenario)


def test_the_longest_message_and_the_longest_session_are_taken():
    async def scenario(house):
        sent = body(message="x" * 32_000, session_id="s" * 128, model="sim:tokens=3")
        return await house.chat(body=sent)

    assert in_house(scenario).types[-1] == "message_completed"


@pytest.mark.parametrize(
    "message", ["\u202eevil", "\ufeff", "😀" * 1000, "\x7f\x1b[31m", "<documents>", "\r\n\r\n", "'; DROP TABLE"]
)
def test_an_odd_message_is_a_message_and_is_stored_as_it_came(message):
    async def scenario(house):
        client = await house.chat(message, model="sim:tokens=3")
        assert client.types[-1] == "message_completed"
        asked, _ = await house.store.messages("demo", "ann", "s1")
        assert asked.text == message

    in_house(scenario)


# --- any bytes --------------------------------------------------------------------------------------------------

ALMOST = st.fixed_dictionaries(
    {},
    optional={
        "session_id": st.one_of(st.text(max_size=20), st.integers(), st.none()),
        "message": st.one_of(st.text(max_size=20), st.lists(st.integers())),
        "model": st.one_of(st.text(max_size=20), st.just("sim:tokens=1")),
        "grounding": st.sampled_from(["required", "preferred", "x", None]),
        "background": st.one_of(st.booleans(), st.text(max_size=3)),
        "x": st.integers(),
    },
).map(lambda fields: json.dumps(fields).encode())


@settings(max_examples=proof_count(60, 1000))
@given(st.lists(st.one_of(st.binary(max_size=60), ALMOST), min_size=1, max_size=20))
def test_whatever_bytes_arrive_the_answer_is_a_stream_or_a_4xx_and_never_a_bug(bodies):
    house = House()

    async def scenario():
        await house.open()
        for sent in bodies:
            client = await house.chat(body=sent)
            assert client.status in (200, 400, 404, 422)
        house.assert_at_rest()
        await house.close()

    run(scenario())
