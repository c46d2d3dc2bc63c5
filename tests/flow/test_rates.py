"""The door: rates, quotas, and the streams of a user."""

import asyncio

import pytest

from service.providers.rows import Price
from service.runtime.quota import Rules
from telemetry import catalogue as rows
from tests.flow.door import SHORT, refusals
from tests.flow.house import in_house


def test_a_rate_is_told_on_every_answer_and_refuses_with_429():
    async def scenario(house):
        told = [(await house.chat(model=SHORT)).answer_headers for _ in range(2)]
        assert [(one["x-ratelimit-limit"], one["x-ratelimit-remaining"]) for one in told] == [("2", "1"), ("2", "0")]
        refused = await house.chat(model=SHORT)
        assert (refused.status, refused.problem["code"]) == (429, "rate_limited")
        assert refused.answer_headers["x-ratelimit-remaining"] == "0"
        assert 55 <= int(refused.answer_headers["retry-after"]) <= 60
        assert refused.answer_headers["retry-after"] == refused.answer_headers["x-ratelimit-reset"]
        assert refusals(house, "rate") == 1
        assert (await house.chat(model=SHORT, key="Bearer eve")).status == 200  # of another tenant
        await asyncio.sleep(int(refused.answer_headers["retry-after"]))
        assert (await house.chat(model=SHORT)).status == 200

    in_house(scenario, rules=Rules(requests=2, period=60.0))


def test_without_a_rate_no_header_promises_one():
    async def scenario(house):
        assert not any(name.startswith("x-ratelimit") for name in (await house.chat(model=SHORT)).answer_headers)

    in_house(scenario)


def test_tokens_are_reserved_while_a_turn_runs_and_settled_by_what_it_used():
    async def scenario(house):
        running = house.connect(house.client(model="sim:tokens=20,interval_ms=100"))
        await house.until(lambda: house.model.open)
        assert house.quota.used("demo")["tokens"] >= 500
        await running
        (turn,) = house.recorder.logged(rows.LOG_REQUEST)
        assert house.quota.used("demo")["tokens"] == turn["prompt_tokens"] + 20

    in_house(scenario, rules=Rules(daily={"tokens": 10_000}))


def test_a_day_s_tokens_that_are_used_up_refuse_with_429_until_midnight():
    async def scenario(house):
        assert (await house.chat(model=SHORT)).status == 200
        refused = await house.chat(model=SHORT)
        assert (refused.status, refusals(house, "quota")) == (429, 1)
        assert "tokens" in refused.problem["detail"]
        await asyncio.sleep(int(refused.answer_headers["retry-after"]))
        assert (await house.chat(model=SHORT)).status == 200

    in_house(scenario, rules=Rules(daily={"tokens": 100}))


def test_a_turn_costs_what_its_provider_asks_for_it():
    async def scenario(house):
        await house.chat(model=SHORT)
        (turn,) = house.recorder.logged(rows.LOG_REQUEST)
        assert house.quota.used("demo")["cost"] == pytest.approx(2e-6 * turn["prompt_tokens"] + 8e-6 * 10)

    in_house(scenario, rules=Rules(daily={"cost": 1.0}), row={"prices": Price(prompt=2.0, generated=8.0)})


@pytest.mark.parametrize("tokens", [0, 5])
def test_a_turn_whose_client_leaves_pays_for_what_was_read_and_said_until_then(tokens):
    async def scenario(house):
        client = house.client(model="sim:ttft_ms=500,tokens=50,interval_ms=100")
        serving = house.connect(client)
        await house.until(lambda: house.model.open)
        await asyncio.sleep(0.5 + 0.1 * tokens - 0.05)
        client.leave()
        await serving
        used = house.quota.used("demo")["tokens"]
        assert used == tokens + 8, "the question has 25 characters: about 8 tokens"

    in_house(scenario, rules=Rules(daily={"tokens": 10_000}))


def test_a_turn_that_asked_no_model_pays_nothing():
    async def scenario(house):
        house.policy.becomes(seconds=1.0)
        assert (await house.chat()).status == 504
        house.policy.becomes()
        house.gates["requests"].set_limit(0)
        assert (await house.chat()).status == 503
        assert house.quota.used("demo")["tokens"] == 0

    in_house(scenario, rules=Rules(daily={"tokens": 10_000}))


def test_a_user_has_so_many_streams_at_once():
    async def scenario(house):
        running = [house.connect(house.client(model="sim:tokens=50,interval_ms=100")) for _ in range(2)]
        await asyncio.sleep(1)
        refused = await house.chat(model=SHORT)
        assert (refused.status, refusals(house, "quota")) == (429, 1)
        assert (await house.chat(model=SHORT, key="Bearer ben")).status == 200
        house.clients[0].leave()
        await running[0]
        assert (await house.chat(model=SHORT)).status == 200
        await running[1]

    in_house(scenario, rules=Rules(user_streams=2))


def test_the_rate_is_asked_before_the_quota_and_the_quota_before_the_queue():
    async def scenario(house):
        house.gates["requests"].set_limit(0)
        first = await house.chat()
        assert first.status == 503  # nothing is used up but the rate
        second = await house.chat(ask={"message": "x" * 400})
        assert second.status == 429
        assert (refusals(house, "quota"), refusals(house, "queue_full"), refusals(house, "rate")) == (1, 1, 0)
        await house.chat()
        assert (await house.chat(ask={"message": "x" * 400})).status == 429
        assert refusals(house, "rate") == 1

    in_house(scenario, queue=0, rules=Rules(requests=2, daily={"tokens": 100}))
