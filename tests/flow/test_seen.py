"""What traces, metrics and the log tell of a turn: each phase once, nested right, and one canonical line."""

import pytest

from service.chat.plan import PLAN
from telemetry import catalogue as rows
from telemetry.catalogue import Attr
from tests.flow.house import BUDGETS, ROUTE, in_house

ORDER = [row.name for row in PLAN]


async def one_turn(house):
    """A turn with a request that waits for the model's place, so that each phase has something to do."""
    await house.chat()
    return house.recorder


def by_id(seen):
    return {span["span_id"]: span for span in seen.spans}


def test_the_phases_of_a_run_are_those_of_the_plan():
    seen = in_house(one_turn)
    phases = {span["attributes"].get(Attr.PHASE) for span in seen.spans} - {None, "http.request"}
    assert phases == set(ORDER) - {"tool.call"}
    assert set(BUDGETS.phases) == set(ORDER)


def test_the_phases_begin_in_the_order_of_the_plan():
    async def scenario(house):
        client = await house.chat(headers={"x-forebay-debug": "phases"})
        return [data for kind, data in client.events if kind == "phase"]

    told = in_house(scenario)
    # one pair for the question's state.persist and one for the answer's; stream.emit goes on beside them all
    begun = [event["phase"] for event in told if event["state"] == "started" and event["phase"] != "stream.emit"]
    begun.remove("state.persist")
    assert begun == [name for name in ORDER if name not in ("tool.call", "stream.emit")]
    for event in told:
        assert (event["outcome"] is None) == (event["state"] == "started") == (event["elapsed_ms"] is None)


@pytest.mark.parametrize(("key", "headers"), [("Bearer ben", {"x-forebay-debug": "phases"}), ("Bearer ann", {})])
def test_phases_are_shown_to_developers_who_ask_and_to_nobody_else(key, headers):
    async def scenario(house):
        return await house.chat(key=key, headers=headers)

    assert "phase" not in in_house(scenario).types


def test_each_phase_is_a_span_under_the_request_with_budget_remaining_and_outcome():
    seen = in_house(one_turn)
    (server,) = seen.named("POST /chat/stream")
    for name in set(ORDER) - {"tool.call"}:
        for span in seen.named(name):
            facts = span["attributes"]
            assert span["parent"] == server["span_id"], name
            assert facts[Attr.OUTCOME] == "ok"
            assert 0 < facts[Attr.REMAINING_MS] <= 25_000
            if name == "stream.emit":
                assert facts[Attr.BLOCKED_ON_READER_MS] == 0
                assert Attr.BUDGET_MS not in facts
            else:
                assert 0 < facts[Attr.BUDGET_MS] <= BUDGETS.phases[name] * 1000
    assert seen.span("model.stream")["attributes"][Attr.FIRST_TOKEN_BUDGET_MS] == 3_000
    assert seen.span("model.stream")["attributes"][Attr.GAP_BUDGET_MS] == 5_000
    assert seen.span("admission")["attributes"][Attr.RESOURCE] == "requests"


def test_each_attempt_is_a_client_span_under_model_stream():
    seen = in_house(one_turn)
    attempt = seen.span("chat sim")
    assert attempt["kind"] == "client"
    assert attempt["parent"] == seen.span("model.stream")["span_id"]
    facts = attempt["attributes"]
    assert facts[Attr.GEN_AI_REQUEST_MODEL] == "sim"
    assert facts[Attr.GEN_AI_PROVIDER] == "simulated"
    assert facts[Attr.GEN_AI_FINISH_REASONS] == ("stop",)
    assert facts[Attr.GEN_AI_OUTPUT_TOKENS] > 10


def test_every_phase_is_counted_and_measured_once_for_each_time_it_ran():
    seen = in_house(one_turn)
    for name in set(ORDER) - {"tool.call"}:
        ran = len(seen.named(name))
        assert seen.value(rows.PHASE_OUTCOMES_TOTAL, name, "ok") == ran, name
        assert seen.value(rows.PHASE_OUTCOMES_TOTAL, name) == ran
        assert seen.value(rows.PHASE_DURATION_SECONDS, name) == ran


def test_the_request_s_own_span_has_the_facts_of_the_turn():
    async def scenario(house):
        client = await house.chat(session="lunch")
        return house.recorder.span("POST /chat/stream"), client

    server, client = in_house(scenario)
    end = client.event("message_completed")
    facts = server["attributes"]
    assert facts[Attr.PHASE] == "http.request"
    assert facts[Attr.REQUEST_OUTCOME] == "completed"
    assert facts[Attr.REQUEST_DECIDED_BY] == "state.persist"
    assert Attr.REQUEST_CAUSE not in facts
    assert facts[Attr.TENANT] == "demo"
    assert facts[Attr.MESSAGE_ID] == end["message_id"]
    assert facts[Attr.GEN_AI_CONVERSATION_ID] == "lunch"
    assert facts[Attr.GEN_AI_OUTPUT_TOKENS] == end["usage"]["generated_tokens"]
    assert facts[Attr.TIME_TO_FIRST_TOKEN_MS] > 200
    assert server["status"] == "UNSET"


OUTCOMES = [
    ("completed", {}, "UNSET"),
    ("degraded", {"ask": {}}, "UNSET"),
    ("errored", {"model": "sim:fail_at=3"}, "ERROR"),
    ("timed_out", {"model": "sim:stall_at=3"}, "ERROR"),
    ("rejected", {"key": "Bearer nobody"}, "UNSET"),
    ("cancelled", {}, "UNSET"),
]


@pytest.mark.parametrize(("outcome", "how", "status"), OUTCOMES, ids=[outcome for outcome, _, _ in OUTCOMES])
def test_a_request_has_one_canonical_line_with_its_outcome_and_errors_alone_mark_its_span(outcome, how, status):
    async def scenario(house):
        if outcome == "degraded":
            house.reranker.becomes(seconds=5.0)
        client = house.client(**how)
        if outcome == "cancelled":
            client.leave_in(0.5)
        await house.connect(client)
        (line,) = house.recorder.logged(rows.LOG_REQUEST)
        server = house.recorder.span("POST /chat/stream")
        assert line["outcome"] == server["attributes"][Attr.REQUEST_OUTCOME] == outcome
        assert line["route"] == ROUTE
        assert line["trace_id"] == server["trace_id"]
        assert line["decided_by"] == server["attributes"][Attr.REQUEST_DECIDED_BY]
        assert line["duration_ms"] >= 0
        assert server["status"] == status
        assert house.requests(outcome) == house.requests() == 1

    in_house(scenario)


@pytest.mark.parametrize("model", ["sim", "sim:fail_at=5", "sim:garbage_at=5", "sim:status=429"])
def test_no_word_of_message_document_or_answer_is_in_a_span_a_label_or_a_line(model):
    async def scenario(house):
        client = await house.chat("Tell me of the Lumen 20, swordfish.", model=model)
        seen = str(house.recorder.spans) + str(house.recorder.logs)
        for secret in ("swordfish", "Lumen", "Halden", "Bearer", model.partition(":")[2] or "swordfish"):
            assert secret not in seen
        assert client.status == 200

    in_house(scenario)
