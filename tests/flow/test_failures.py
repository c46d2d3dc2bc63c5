"""A turn that goes wrong: what the client is told, what is stored, and who is to blame in traces and metrics."""

import gc

import pytest

from service.errors import PersistFailed
from service.ports import Finish, Text, Usage
from telemetry import catalogue as rows
from telemetry.catalogue import Attr
from tests.flow.house import ROUTE, in_house
from tests.flow.parts import Says

PROVIDERS = [
    ("sim:fail_at=0", "provider_error", "5xx", "model.stream"),
    ("sim:fail_at=4", "provider_error", "5xx", "model.stream"),
    ("sim:status=429", "provider_rate_limited", "429", "model.stream"),
    ("sim:status=400,fail_at=4", "provider_error", "4xx", "model.stream"),
    ("sim:garbage_at=4", "provider_error", "malformed", "model.stream"),
    ("sim:garbage_at=0", "provider_error", "malformed", "model.stream"),
]


@pytest.mark.parametrize(("model", "code", "kind", "where"), PROVIDERS, ids=[row[0] for row in PROVIDERS])
def test_a_provider_s_failure_ends_the_stream_with_one_error_that_says_where(model, code, kind, where):
    async def scenario(house):
        client = await house.chat(model=model)
        error = client.event("error")
        assert (error["code"], error["phase"], error["retryable"]) == (code, where, kind != "4xx")
        assert error["trace_id"] == house.recorder.span("POST /chat/stream")["trace_id"]
        assert len(error["message"]) < 60
        assert client.status == 200
        assert "message_completed" not in client.types
        message = await house.message()
        assert (message.status, message.text) == ("failed", client.text)
        seen = house.recorder
        assert seen.value(rows.PROVIDER_REQUESTS_TOTAL, "simulated", kind) == 1
        assert seen.value(rows.PROVIDER_REQUESTS_TOTAL) == 1
        assert seen.value(rows.STREAM_ERRORS_TOTAL, code) == 1
        assert seen.span("chat sim")["attributes"][Attr.ERROR_TYPE] == kind
        assert seen.span("model.stream")["attributes"][Attr.OUTCOME] == "error"
        assert seen.span("POST /chat/stream")["attributes"][Attr.REQUEST_DECIDED_BY] == where
        missed = 0 if client.text else 1
        assert seen.value(rows.FIRST_TOKEN_MISSED_TOTAL, ROUTE, "error") == missed
        assert house.requests("errored") == 1

    in_house(scenario, row={"max_attempts": 1})


def test_what_the_provider_said_stays_with_its_span_as_status_code_and_id():
    async def scenario(house):
        await house.chat(model="sim:status=429,seed=9")
        return house.recorder.span("chat sim")

    facts = in_house(scenario, row={"max_attempts": 1})["attributes"]
    assert facts[Attr.PROVIDER_STATUS] == 429
    assert facts[Attr.PROVIDER_ERROR_CODE] == "simulated"
    assert facts[Attr.PROVIDER_REQUEST_ID] == "sim-9"


ANSWERS = [
    ("cut", (Text("Half a"),), "provider_error", "model.stream"),
    ("empty", (Finish("stop"), Usage(10, 0)), "invalid_answer", "finalize"),
    ("blank", (Text(" \n"), Finish("stop")), "invalid_answer", "finalize"),
    ("filtered", (Text("I should not"), Finish("content_filter")), "content_filtered", "finalize"),
]


@pytest.mark.parametrize(("what", "deltas", "code", "where"), ANSWERS, ids=[row[0] for row in ANSWERS])
def test_an_answer_that_is_none_is_never_completed(what, deltas, code, where):
    async def scenario(house):
        house.model._model = Says(*deltas)
        client = await house.chat()
        error = client.event("error")
        assert (error["code"], error["phase"]) == (code, where)
        assert (await house.message()).status == "failed"
        assert house.requests("errored") == 1

    in_house(scenario)


def test_a_bug_in_a_part_reaches_the_client_as_internal_and_the_log_as_a_bug_without_its_words():
    async def scenario(house):
        house.model._model = Says(Text("So "), ZeroDivisionError("swordfish"))
        client = await house.chat()
        assert client.event("error")["code"] == "internal"
        assert "swordfish" not in str(client.raw)
        (line,) = house.recorder.logged(rows.LOG_BUG)
        assert "swordfish" not in str(house.recorder.logs) + str(house.recorder.spans)
        assert "ZeroDivisionError" in str(line)
        house.recorder.logs.remove(line)
        assert (await house.message()).status == "failed"

    in_house(scenario)


# --- the state database -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["history", "begin_turn"])
def test_without_the_state_database_a_turn_is_refused_before_its_stream(method):
    async def scenario(house):
        house.store.becomes(error=PersistFailed(), only=method)
        client = await house.chat()
        assert (client.status, client.problem["code"]) == (503, "persist_failed")
        assert int(client.answer_headers["retry-after"]) >= 1
        assert not house.model.calls
        assert house.recorder.value(rows.REJECTIONS_TOTAL, ROUTE, "provider_unavailable") == 1

    in_house(scenario)


def test_an_answer_that_cannot_be_stored_is_an_error_and_its_ending_is_kept_to_be_written_later():
    async def scenario(house):
        client = house.client(model="sim:tokens=20")
        task = house.connect(client)
        await house.until(lambda: client.text)
        house.conditions.down = True
        await task
        error = client.event("error")
        assert (error["code"], error["phase"]) == ("persist_failed", "state.persist")
        assert house.requests("errored") == 1
        (ending,) = house.parts.unsettled
        assert (ending.status, ending.error_code) == ("failed", "persist_failed")
        assert house.recorder.logged(rows.LOG_UNSETTLED)
        house.conditions.down = False
        assert await house.store.end_turn(house.parts.unsettled.pop())

    in_house(scenario)


def test_a_message_that_another_process_interrupted_is_not_completed():
    async def scenario(house):
        client = house.client()
        task = house.connect(client)
        await house.until(lambda: client.text)
        house.driver._db.execute("UPDATE messages SET status = 'interrupted' WHERE role = 'assistant'")
        await task
        assert client.event("error")["code"] == "persist_failed"
        assert (await house.message()).status == "interrupted"

    in_house(scenario)


# --- refusals ---------------------------------------------------------------------------------------------------

REFUSALS = [
    ({"key": "Bearer nobody"}, 401, "unauthenticated", "unauthenticated", "admission"),
    ({"key": "Bearer nil"}, 403, "forbidden", "forbidden", "policy.check"),
    ({"model": "gpt"}, 404, "not_found", "not_found", "admission"),
    ({"model": "sim:wings=2"}, 422, "invalid_request", "invalid", "admission"),
    ({"body": b"{"}, 400, "invalid_request", "invalid", "input.validation"),
]


@pytest.mark.parametrize(("how", "status", "code", "reason", "where"), REFUSALS, ids=[str(row[1]) for row in REFUSALS])
def test_a_refusal_before_the_stream_is_a_true_status_with_a_problem(how, status, code, reason, where):
    async def scenario(house):
        client = await house.chat(**how)
        server = house.recorder.span("POST /chat/stream")
        assert client.status == status
        assert client.problem["code"] == code
        assert client.problem["trace_id"] == server["trace_id"]
        assert house.recorder.value(rows.REJECTIONS_TOTAL, ROUTE, reason) == 1
        assert server["attributes"][Attr.REQUEST_CAUSE] == reason
        assert server["attributes"][Attr.REQUEST_DECIDED_BY] == where
        assert house.statuses() == {}
        assert not house.model.calls
        assert house.recorder.value(rows.FIRST_TOKEN_MISSED_TOTAL) == 0

    in_house(scenario)


def test_whom_the_policy_refuses_has_no_history_read():
    async def scenario(house):
        await house.chat(key="Bearer nil")
        return house.recorder

    seen = in_house(scenario)
    assert seen.span("policy.check")["attributes"][Attr.OUTCOME] == "rejected"
    assert "context.load" not in {span["name"] for span in seen.spans}


def test_whom_the_policy_refuses_leaves_no_check_of_a_schema_behind(recwarn):
    in_house(lambda house: house.chat(key="Bearer nil", ask={"response_schema": {"type": "object"}}))
    gc.collect()  # a coroutine that nobody awaited would say so now
    assert [str(warning.message) for warning in recwarn] == []


def test_beside_a_refused_schema_the_context_is_abandoned_and_not_cancelled():
    async def scenario(house):
        house.store.becomes(seconds=0.2, only="history")
        await house.chat(ask={"response_schema": {"type": "no such type"}})
        return house.recorder

    assert in_house(scenario).span("context.load")["attributes"][Attr.OUTCOME] == "abandoned"
