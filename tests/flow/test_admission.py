"""The door: who waits for a place, who is refused at once because it could not end well, and how all comes back."""

import asyncio

import pytest

from service.errors import Cause
from service.runtime.quota import Rules
from telemetry import catalogue as rows
from telemetry.catalogue import Attr
from tests.flow.door import SHORT, refusals
from tests.flow.house import in_house
from tests.support import proof_count


def test_who_could_not_have_its_first_token_in_time_is_refused_at_once():
    async def scenario(house):
        for _ in range(3):
            await house.chat(model="sim:ttft_ms=2000,tokens=2")
        before = asyncio.get_running_loop().time()
        hurried = await house.chat(model=SHORT, headers={"x-request-timeout-ms": "1500"})
        assert asyncio.get_running_loop().time() - before < 0.01
        assert (hurried.status, hurried.problem["code"]) == (504, "timeout"), "it is the client who cannot wait"
        assert (refusals(house, "timeout"), refusals(house, "deadline")) == (1, 0)
        patient = await house.chat(model=SHORT, headers={"x-request-timeout-ms": "2500"})
        assert patient.types[-1] == "message_completed"

    in_house(scenario)


def test_a_client_that_cannot_wait_is_no_excuse_for_a_line_that_is_too_long():
    async def scenario(house):
        house.gates["model"].set_limit(1)
        await house.chat(model="sim:tokens=80,interval_ms=100")  # eight seconds
        running = house.connect(house.client(model="sim:tokens=80,interval_ms=100"))
        await house.until(lambda: house.model.open)
        refused = await house.chat(model=SHORT, headers={"x-request-timeout-ms": "1500"})
        assert (refused.status, refusals(house, "deadline")) == (503, 1)
        await running

    in_house(scenario)


def test_what_was_learnt_of_a_slow_model_is_forgotten_when_nobody_has_asked_it_for_a_while():
    async def scenario(house):
        await house.chat(model="sim:ttft_ms=2000,tokens=2")
        hurried = {"x-request-timeout-ms": "1500"}
        assert (await house.chat(model=SHORT, headers=hurried)).status == 504
        await asyncio.sleep(30)
        assert (await house.chat(model=SHORT, headers=hurried)).status == 200

    in_house(scenario)


def test_who_would_wait_too_long_for_its_model_is_refused_before_it_begins():
    async def scenario(house):
        house.gates["model"].set_limit(1)
        await house.chat(model="sim:tokens=80,interval_ms=100")  # eight seconds
        running = house.connect(house.client(model="sim:tokens=80,interval_ms=100"))
        await asyncio.sleep(1)
        before = asyncio.get_running_loop().time()
        refused = await house.chat(model=SHORT)
        assert asyncio.get_running_loop().time() - before < 0.01
        assert (refused.status, refusals(house, "deadline")) == (503, 1)
        assert int(refused.answer_headers["retry-after"]) >= 8
        await running

    in_house(scenario)


def test_the_wait_of_a_turn_for_its_own_place_has_a_limit_of_its_own():
    async def scenario(house):
        house.gates["requests"].set_limit(0)
        assert (await house.chat()).status == 503
        assert asyncio.get_running_loop().time() == pytest.approx(0.7, abs=0.01)

    in_house(scenario, queue_wait=0.7)


def test_a_drain_refuses_those_who_wait_for_a_place_and_lets_none_in():
    async def scenario(house):
        house.gates["requests"].set_limit(1)
        running = house.connect(house.client(model="sim:tokens=10,interval_ms=100"))
        await asyncio.sleep(0.2)
        waiting = [house.client(session=f"s{number}") for number in range(5)]
        serving = [house.connect(client) for client in waiting]
        await asyncio.sleep(0.2)
        house.admittance.draining = True
        assert await house.parts.live.drain(0.1, Cause.SHUTDOWN, 4.0) == 0
        await asyncio.gather(running, *serving)
        assert {(client.status, client.problem["code"]) for client in waiting} == {(503, "shutting_down")}
        assert house.gates["requests"].in_use == 0

    in_house(scenario)


def test_who_comes_during_a_drain_is_told_to_come_again_when_it_is_over():
    async def scenario(house):
        house.admittance.drain(10.0)
        await asyncio.sleep(3.0)
        asked = [await house.chat(), await house.chat(ask={"background": True})]
        assert [client.answer_headers["retry-after"] for client in asked] == ["7", "7"]
        await asyncio.sleep(60.0)
        assert (await house.chat()).answer_headers["retry-after"] == "1"
        facts = house.recorder.logged(rows.LOG_REQUEST)
        assert {(one["decided_by"], one["cause"]) for one in facts} == {("admission", "draining")}

    in_house(scenario)


def test_a_tenant_that_asks_for_a_thousand_turns_hardly_delays_another_s_single_one():
    async def scenario(house):
        house.gates["requests"].set_limit(20)
        loop = asyncio.get_running_loop()
        began = loop.time()
        await house.chat(model=SHORT, key="Bearer eve")
        alone = loop.time() - began
        many = [house.connect(house.client(model=SHORT, session=f"s{number}")) for number in range(1000)]
        await asyncio.sleep(0.5)
        began = loop.time()
        single = await house.chat(model=SHORT, key="Bearer eve")
        assert single.types[-1] == "message_completed"
        assert loop.time() - began <= 3 * alone
        await asyncio.gather(*many)
        assert refusals(house, "tenant_queue_full") > 0

    in_house(scenario, tenant_limit=20, queue_wait=60.0)


def test_a_wait_for_a_place_is_a_phase_of_the_trace_that_says_for_what():
    async def scenario(house):
        for gate in ("requests", "model"):
            house.gates[gate].set_limit(0)
        loop = asyncio.get_running_loop()
        loop.call_later(0.5, house.gates["requests"].set_limit, 1)
        loop.call_later(1.5, house.gates["model"].set_limit, 1)
        client = house.client(model=SHORT)
        serving = house.connect(client)
        await asyncio.sleep(0.2)
        assert house.recorder.value(rows.ADMISSION_QUEUE_DEPTH, "requests") == 1
        await serving
        waits = [span["attributes"] for span in house.recorder.named("admission")]
        assert [(one[Attr.RESOURCE], one[Attr.OUTCOME]) for one in waits] == [
            ("requests", "ok"),
            ("model:simulated", "ok"),
        ]
        assert house.recorder.total(rows.ADMISSION_WAIT_SECONDS, "model:simulated") == pytest.approx(1.0, abs=0.02)
        assert client.warnings() == ["waiting_for_model"]

    in_house(scenario)


@pytest.mark.parametrize("seed", range(proof_count(25, 500)))
def test_whatever_ends_a_turn_its_places_its_reservation_and_its_stream_come_back(seed):
    async def scenario(house):
        random = house.world.random
        house.gates["requests"].set_limit(3)
        house.gates["model"].set_limit(2)

        async def one(number):
            await asyncio.sleep(random.uniform(0, 3))
            client = house.client(
                model=f"sim:tokens={random.randrange(1, 9)},interval_ms=30,ttft_ms={random.randrange(200)}",
                session=f"s{number}",
                key=random.choice(("Bearer ann", "Bearer ben", "Bearer eve")),
            )
            if random.random() < 0.5:
                client.leave_in(random.uniform(0, 1))
            serving = house.connect(client)
            if random.random() < 0.2:
                await asyncio.sleep(random.uniform(0, 0.5))
                client.leave()  # what the server gives up is told nothing
                serving.cancel()
            await asyncio.wait([serving])

        await asyncio.gather(*(one(number) for number in range(30)))
        assert not house.quota._streams
        spent = {"demo": 0, "rival": 0}
        for turn in house.recorder.logged(rows.LOG_REQUEST):
            if turn["tenant"] and turn["outcome"] == "completed":
                spent[turn["tenant"]] += turn["prompt_tokens"] + turn["generated_tokens"]
        for tenant, tokens in spent.items():
            used = house.quota.used(tenant).get("tokens", 0)
            assert tokens <= used <= tokens + 30 * 17  # and no reservation of 500 among it

    in_house(scenario, seed=seed, queue=6, rules=Rules(daily={"tokens": 1e9}, user_streams=8))
