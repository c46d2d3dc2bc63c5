"""Places: who gets none in time is refused or told, and the wait is nobody's fault but the wait's."""

import asyncio

import pytest

from telemetry import catalogue as rows
from telemetry.catalogue import Attr
from tests.flow.house import ROUTE, in_house


def outcomes(house, span):
    return [one["attributes"][Attr.OUTCOME] for one in house.recorder.named(span)]


def test_without_a_place_in_time_a_request_is_refused_with_503_and_retry_after():
    async def scenario(house):
        house.gates["requests"].set_limit(0)
        client = await house.chat()
        assert (client.status, client.problem["code"]) == (503, "overloaded")
        assert int(client.answer_headers["retry-after"]) >= 1
        assert asyncio.get_running_loop().time() == pytest.approx(2.0, abs=0.05)
        assert house.recorder.value(rows.REJECTIONS_TOTAL, ROUTE, "deadline") == 1
        assert outcomes(house, "admission") == ["timeout"]
        assert house.recorder.span("POST /chat/stream")["attributes"][Attr.REQUEST_DECIDED_BY] == "admission"

    in_house(scenario)


def test_a_tenant_with_all_its_places_in_use_is_told_so_with_429():
    async def scenario(house):
        first = house.connect(house.client(model="sim:ttft_ms=2900"))
        await asyncio.sleep(0.1)
        other = house.client(model="sim:tokens=3", key="Bearer eve")
        await house.connect(other)
        assert other.types[-1] == "message_completed"
        second = await house.chat()
        assert (second.status, second.problem["code"]) == (429, "rate_limited")
        assert house.recorder.value(rows.REJECTIONS_TOTAL, ROUTE, "tenant_concurrency") == 1
        await first

    in_house(scenario, tenant_limit=1)


def test_over_a_full_queue_a_request_is_refused_at_once():
    async def scenario(house):
        house.gates["requests"].set_limit(0)
        waiting = [house.connect(house.client()) for _ in range(2)]
        await asyncio.sleep(0.1)
        before = asyncio.get_running_loop().time()
        client = await house.chat()
        assert client.status == 503
        assert asyncio.get_running_loop().time() - before < 0.05
        assert house.recorder.value(rows.REJECTIONS_TOTAL, ROUTE, "queue_full") == 1
        await asyncio.gather(*waiting)

    in_house(scenario, queue=2)


def test_who_gets_a_place_after_a_wait_is_served():
    async def scenario(house):
        house.gates["requests"].set_limit(0)
        asyncio.get_running_loop().call_later(1.5, house.gates["requests"].set_limit, 1)
        client = await house.chat(model="sim:tokens=3")
        assert client.types[-1] == "message_completed"
        assert house.recorder.total(rows.ADMISSION_WAIT_SECONDS, "requests") == pytest.approx(1.5, abs=0.01)

    in_house(scenario)


def test_after_the_first_byte_a_wait_for_the_model_is_told_and_ends_as_overloaded():
    async def scenario(house):
        house.gates["model"].set_limit(0)
        client = await house.chat()
        assert client.warnings() == ["waiting_for_model"]
        error = client.event("error")
        assert (error["code"], error["phase"], error["retryable"]) == ("overloaded", "admission", True)
        assert house.recorder.value(rows.TIMEOUTS_TOTAL, "admission", "phase") == 1
        assert house.recorder.value(rows.TIMEOUTS_TOTAL) == 1
        assert "timeout" not in outcomes(house, "model.stream")
        assert house.requests("errored") == 1
        assert not house.model.calls

    in_house(scenario)


@pytest.mark.parametrize(("limit", "code"), [("client", "timeout"), ("total", "overloaded")])
def test_a_wait_for_the_model_that_the_whole_s_limit_ends_is_overload_unless_the_client_set_it(limit, code):
    async def scenario(house):
        house.gates["model"].set_limit(0)
        client = await house.chat(headers={"x-request-timeout-ms": "1000"} if limit == "client" else {})
        assert (client.event("error")["code"], client.event("error")["phase"]) == (code, "admission")
        assert house.recorder.value(rows.TIMEOUTS_TOTAL, "admission", limit) == 1
        assert house.recorder.value(rows.TIMEOUTS_TOTAL) == 1

    for seed in range(20):
        in_house(scenario, seed=seed, budgets={"total": 1.0} if limit == "total" else {})


def test_waiting_for_a_model_is_not_charged_to_the_model():
    async def scenario(house):
        house.gates["model"].set_limit(0)
        asyncio.get_running_loop().call_later(1.9, house.gates["model"].set_limit, 1)
        client = await house.chat(model="sim:ttft_ms=2900,tokens=3")
        assert client.warnings() == ["waiting_for_model"]
        assert client.types[-1] == "message_completed"
        assert house.requests("completed") == 1  # waiting is no degradation
        assert house.recorder.total(rows.PROVIDER_FIRST_TOKEN_SECONDS) == pytest.approx(2.9)

    in_house(scenario)


def test_a_slow_reader_s_time_before_the_wait_is_not_charged_to_the_model_either():
    async def scenario(house):
        house.gates["model"].set_limit(0)
        client = house.client(model="sim:ttft_ms=2900,tokens=3", pause=2.0)
        asyncio.get_running_loop().call_later(3.5, house.gates["model"].set_limit, 1)
        await house.connect(client)
        assert client.types[-1] == "message_completed"

    in_house(scenario, stream_queue=1)


@pytest.mark.parametrize(("gate", "warning"), [("retrieval", "retrieval_degraded"), ("rerank", "rerank_skipped")])
def test_without_a_place_of_an_optional_dependency_the_turn_goes_on_degraded(gate, warning):
    async def scenario(house):
        house.gates[gate].set_limit(0)
        client = await house.chat()
        assert client.warnings() == [warning]
        assert client.types[-1] == "message_completed"
        assert house.requests("degraded") == 1
        assert outcomes(house, "admission") == ["ok", "timeout"]

    in_house(scenario)


def test_a_draining_process_refuses_at_the_door():
    async def scenario(house):
        house.admittance.draining = True
        client = await house.chat()
        assert (client.status, client.problem["code"]) == (503, "shutting_down")
        assert int(client.answer_headers["retry-after"]) >= 1
        assert house.recorder.value(rows.REJECTIONS_TOTAL, ROUTE, "draining") == 1

    in_house(scenario)
