"""Time: each phase ends at its budget or at what is left, and the one that was too slow is the one that is named."""

import asyncio
from dataclasses import replace

import pytest

from service.api.chat import SseDoor
from service.api.jobs import JobDoor
from service.chat.flow import answer
from service.chat.submission import submit
from service.ports import Finish, Text
from telemetry import catalogue as rows
from telemetry.catalogue import Attr
from tests.flow.house import ANN, ROUTE, in_house
from tests.flow.parts import Says

LATE = 30.0  # seconds, over every budget


def slow(house, phase):
    """Let this phase take longer than any budget."""
    match phase:
        case "policy.check":
            house.policy.becomes(LATE, only="scope")
        case "context.load":
            house.store.becomes(LATE, only="history")
        case "retrieval.query":
            house.retriever.becomes(LATE)
        case "rerank":
            house.reranker.becomes(LATE)
        case "state.persist":
            house.store.becomes(LATE, only="end_turn")
        case "begin":
            house.store.becomes(LATE, only="begin_turn")


async def undecided(header, address):
    """A state database that does not say in time whose key it is."""
    await asyncio.sleep(LATE)


def assert_timed_out(house, label, *, limit, span=None, how="fail_closed"):
    """Exactly one phase is told as timed out, by this limit."""
    seen = house.recorder
    assert seen.value(rows.TIMEOUTS_TOTAL, label, limit) == 1
    late = [one for one in seen.spans if one["attributes"].get(Attr.OUTCOME) == "timeout"]
    assert [one["name"] for one in late] == [span or label]
    facts = late[0]["attributes"]
    assert facts[Attr.TIMEOUT_LIMIT] == limit
    assert facts[Attr.ON_TIMEOUT] == how
    assert (facts[Attr.ERROR_TYPE], late[0]["status"]) == ("timeout", "ERROR")
    assert seen.value(rows.PHASE_OUTCOMES_TOTAL, "", "timeout") == 1


def job(house):
    body = {"kind": "report", "input": {"question": "What is case C-1042 about?"}}
    return house.client(body=body), JobDoor, submit


@pytest.mark.parametrize(
    ("asked", "limit"),
    [
        (lambda house: (house.client(), SseDoor, answer), 3.0),
        (lambda house: (house.client(headers={"x-request-timeout-ms": "400"}), SseDoor, answer), 0.4),
        (job, 3.0),
    ],
    ids=["turn", "turn of a client in a hurry", "job"],
)
def test_whose_request_it_is_must_be_known_in_what_is_left_of_the_whole(asked, limit):
    async def scenario(house):
        house.parts = replace(house.parts, authenticate=undecided)
        client, door, do = asked(house)
        await house.connect(client, door, do)
        assert (client.status, client.problem["code"]) == (504, "timeout")
        assert asyncio.get_running_loop().time() == pytest.approx(limit, abs=0.05)
        assert house.recorder.value(rows.REJECTIONS_TOTAL, door.route, "timeout") == 1

    in_house(scenario, budgets={"total": 3.0})


@pytest.mark.parametrize(("phase", "budget"), [("policy.check", 0.15), ("context.load", 0.3), ("begin", 0.5)])
def test_before_the_stream_a_phase_at_its_budget_refuses_the_request_with_504(phase, budget):
    async def scenario(house):
        slow(house, phase)
        client = await house.chat()
        name = "state.persist" if phase == "begin" else phase
        assert (client.status, client.problem["code"]) == (504, "timeout")
        assert name in client.problem["detail"]
        assert asyncio.get_running_loop().time() == pytest.approx(budget, abs=0.05)
        assert house.recorder.value(rows.REJECTIONS_TOTAL, ROUTE, "timeout") == 1
        assert_timed_out(house, name, limit="phase")
        assert not house.model.calls

    in_house(scenario)


OPEN = [("retrieval.query", "retrieval", "retrieval_degraded"), ("rerank", "rerank", "rerank_skipped")]


@pytest.mark.parametrize(("phase", "dependency", "warning"), OPEN)
def test_an_optional_phase_at_its_budget_is_a_warning_and_the_turn_goes_on_degraded(phase, dependency, warning):
    async def scenario(house):
        slow(house, phase)
        client = await house.chat()
        assert client.warnings() == [warning]
        assert client.types[-1] == "message_completed"
        assert client.event("retrieval_completed")["degraded"] is True
        assert house.requests("degraded") == 1
        assert house.recorder.value(rows.DEGRADATIONS_TOTAL, dependency) == 1
        assert house.recorder.span("POST /chat/stream")["attributes"][Attr.DEGRADED] == dependency
        assert_timed_out(house, phase, limit="phase", how="fail_open")

    in_house(scenario)


def test_without_the_reranker_the_order_of_the_first_stage_stands():
    async def scenario(house):
        scope = await house.policy.scope(ANN)
        first = [found.id for found in await house.retriever.query("What is case C-1042 about?", scope, 5)]
        slow(house, "rerank")
        client = await house.chat()
        assert [found["id"] for found in client.event("retrieval_completed")["documents"]] == first

    in_house(scenario)


def test_a_required_retrieval_at_its_budget_ends_the_turn():
    async def scenario(house):
        slow(house, "retrieval.query")
        client = await house.chat(ask={"grounding": "required"})
        error = client.event("error")
        assert (error["code"], error["phase"]) == ("timeout", "retrieval.query")
        assert not house.model.calls
        assert (await house.message()).status == "timed_out"
        assert_timed_out(house, "retrieval.query", limit="phase")

    in_house(scenario)


# --- the model's three limits -----------------------------------------------------------------------------------

MODELS = [
    ("sim:ttft_ms=10000", "model.first_token", 3.0),
    ("sim:ttft_ms=1000,stall_at=5,interval_ms=100", "model.gap", 6.4),
    ("sim:ttft_ms=1000,tokens=10000,interval_ms=100", "model.total", 20.0),
]


@pytest.mark.parametrize(("model", "label", "after"), MODELS, ids=[label for _, label, _ in MODELS])
def test_first_token_gap_and_generation_each_have_a_limit_with_its_own_name(model, label, after):
    async def scenario(house):
        client = await house.chat(model=model)
        error = client.event("error")
        assert (error["code"], error["phase"]) == ("timeout", "model.stream")
        assert label in error["message"]
        assert asyncio.get_running_loop().time() == pytest.approx(after, abs=0.05)
        assert_timed_out(house, label, limit="phase", span="model.stream")
        assert house.requests("timed_out") == 1
        assert (await house.message()).status == "timed_out"
        assert (await house.message()).text == client.text
        assert house.recorder.value(rows.PROVIDER_REQUESTS_TOTAL, "simulated", "timeout") == 1
        assert house.recorder.span("chat sim")["status"] == "ERROR"
        missed = label == "model.first_token"
        assert house.recorder.value(rows.FIRST_TOKEN_MISSED_TOTAL, ROUTE, "timeout") == missed

    in_house(scenario)


def test_a_slow_model_after_a_slow_retrieval_is_told_as_the_model_s_fault():
    async def scenario(house):
        house.retriever.becomes(1.4)
        await house.chat(model="sim:ttft_ms=2900,stall_at=3")
        assert_timed_out(house, "model.gap", limit="phase", span="model.stream")
        assert house.recorder.span("retrieval.query")["attributes"][Attr.OUTCOME] == "ok"

    in_house(scenario)


def test_a_row_s_own_limits_replace_those_of_the_settings():
    async def scenario(house):
        house.model._model = Says(8.0, Text("Slow"), 8.0, Text(" but sure."), Finish("stop"))
        client = await house.chat()
        assert client.types[-1] == "message_completed"
        facts = house.recorder.span("model.stream")["attributes"]
        assert (facts[Attr.FIRST_TOKEN_BUDGET_MS], facts[Attr.GAP_BUDGET_MS]) == (10_000, 9_000)
        assert facts[Attr.BUDGET_MS] == 40_000
        assert 58_000 < facts[Attr.REMAINING_MS] <= 60_000

    in_house(scenario, row={"first_token": 10.0, "token_gap": 9.0, "generation": 40.0, "total": 60.0})


# --- whose limit it was -----------------------------------------------------------------------------------------

WHOSE = [
    ("policy.check", "100", "policy.check", "client"),
    ("policy.check", "200", "policy.check", "phase"),
    ("retrieval.query", "1000", "retrieval.query", "client"),
    ("rerank", "100", "rerank", "client"),
]


@pytest.mark.parametrize(("phase", "header", "label", "limit"), WHOSE)
def test_a_client_s_own_limit_ends_whatever_phase_is_running_and_says_that_it_was_the_client_s(
    phase, header, label, limit
):
    async def scenario(house):
        house.model._model = Says(2.8, Text("Just in time."), Finish("stop"))
        slow(house, phase)
        client = await house.chat(headers={"x-request-timeout-ms": header})
        told = client.problem["code"] if client.status != 200 else client.event("error")["code"]
        assert told == "timeout"
        assert_timed_out(
            house, label, limit=limit, how="fail_open" if phase in ("retrieval.query", "rerank") else "fail_closed"
        )

    in_house(scenario)


@pytest.mark.parametrize(
    ("model", "label"),
    [
        ("sim:ttft_ms=10000", "model.first_token"),
        ("sim:ttft_ms=0,stall_at=1", "model.total"),
        ("sim:ttft_ms=0,tokens=1000", "model.total"),
    ],
)
@pytest.mark.parametrize("limit", ["client", "total"])
def test_in_the_model_too_the_whole_s_limit_is_told_from_the_model_s_own(model, label, limit):
    async def scenario(house):
        headers = {"x-request-timeout-ms": "2000"} if limit == "client" else {}
        client = await house.chat(model=model, headers=headers)
        assert client.event("error")["phase"] == "model.stream"
        assert asyncio.get_running_loop().time() == pytest.approx(2.0, abs=0.05)
        assert_timed_out(house, label, limit=limit, span="model.stream")

    in_house(scenario, budgets={} if limit == "client" else {"total": 2.0})


@pytest.mark.parametrize(
    ("header", "total", "deadline"),
    [("60000", 60.0, 60.0), ("40000", 60.0, 40.0), ("9000", 5.0, 5.0), ("90000", 60.0, 60.0)],
)
def test_a_client_s_limit_shortens_the_total_of_a_model_s_row_and_never_lengthens_it(header, total, deadline):
    async def scenario(house):
        house.model._model = Says(LATE * 10)
        await house.chat(headers={"x-request-timeout-ms": header})
        assert asyncio.get_running_loop().time() == pytest.approx(deadline, abs=0.05)
        whose = "client" if deadline < total else "total"
        assert_timed_out(house, "model.first_token", limit=whose, span="model.stream")

    in_house(scenario, row={"first_token": 100.0, "generation": 100.0, "total": total})


def test_after_a_timeout_the_ending_is_written_within_a_budget_of_its_own():
    async def scenario(house):
        house.store.becomes(0.4, only="end_turn")
        await house.chat(model="sim:stall_at=0", headers={"x-request-timeout-ms": "1000"})
        assert (await house.message()).status == "timed_out"
        assert not house.parts.unsettled
        assert asyncio.get_running_loop().time() == pytest.approx(1.4, abs=0.05)

    in_house(scenario)


def test_finalize_and_persist_share_one_budget_and_an_answer_that_misses_it_is_not_completed():
    async def scenario(house):
        slow(house, "state.persist")
        client = await house.chat(model="sim:tokens=3")
        assert client.event("error")["phase"] == "state.persist"
        assert house.recorder.value(rows.TIMEOUTS_TOTAL, "state.persist", "phase") == 2  # the answer's and its ending's
        (ending,) = house.parts.unsettled
        assert ending.status == "timed_out"
        assert house.statuses() == {"streaming": 1}

    in_house(scenario)
