"""Idempotency-Key: what was answered is told again, and costs nothing."""

import asyncio

from service.ports import Finish, Text, Usage
from service.providers.failures import from_status
from service.runtime.quota import Rules
from telemetry import catalogue as rows
from tests.flow.house import ANN, ROUTE, in_house
from tests.flow.keyed import KEY, QUESTION, keyed
from tests.flow.parts import Says


def told(client):
    """What a client was told that a replay must tell again."""
    return [(kind, data) for kind, data in client.events if kind not in ("message_start", "token_delta")]


def without_duration(events):
    return [(kind, {name: value for name, value in data.items() if name != "duration_ms"}) for kind, data in events]


def test_a_completed_turn_is_told_again_without_calling_a_model():
    async def scenario(house):
        first, again = await keyed(house), await keyed(house)
        assert len(house.model.calls) == 1
        assert (first.status, again.status) == (200, 200)
        assert "idempotent-replayed" not in first.answer_headers
        assert again.answer_headers["idempotent-replayed"] == "true"
        assert again.types == first.types
        assert again.text == first.text
        assert without_duration(told(again)) == without_duration(told(first))
        ids = [client.event("message_start")["message_id"] for client in (first, again)]
        assert ids[0] == ids[1]
        assert len(await house.store.messages(ANN.tenant, ANN.user, "s1")) == 2

    in_house(scenario)


def test_a_replay_tells_the_calls_of_tools_where_they_stood():
    async def scenario(house):
        model = "sim:tool=policy_lookup,ttft_ms=10,interval_ms=1"
        first, again = await keyed(house, model=model), await keyed(house, model=model)
        assert again.answer_headers["idempotent-replayed"] == "true"
        assert first.event("tool_call_completed")["status"] == "completed"
        assert (again.types, again.text) == (first.types, first.text)
        assert without_duration(told(again)) == without_duration(told(first))

    in_house(scenario)


def test_a_replay_needs_neither_a_provider_that_works_nor_a_place_of_its_own_nor_a_quota():
    async def scenario(house):
        first = await keyed(house)
        house.model._model = Says(from_status(500))
        for _ in range(20):
            await house.chat()
        assert (await house.chat()).status == 503, "the circuit is open"
        held = [house.gates["model"].try_acquire("demo", asyncio.current_task()) for _ in range(100)]
        house.quota._used["demo"]["tokens"] = 1e6
        again = await keyed(house)
        for one in held:
            one.release()
        assert (again.status, again.text) == (200, first.text)
        assert (await keyed(house, "Another question")).status != 200

    in_house(scenario, row={"max_attempts": 1}, rules=Rules(daily={"tokens": 1e6}))


def test_a_replay_is_refused_while_the_process_drains():
    async def scenario(house):
        await keyed(house)
        house.admittance.draining = True
        refused = await keyed(house)
        assert (refused.status, refused.problem["code"]) == (503, "shutting_down")
        assert [line["replayed"] for line in house.recorder.logged(rows.LOG_REQUEST)] == [False, False]

    in_house(scenario)


def test_a_replay_counts_as_a_completed_request_and_neither_as_tokens_nor_as_a_first_token():
    async def scenario(house):
        house.model._model = Says(Text("All is "), Text("well [1]."), Finish("stop"), Usage(120, 9))
        await keyed(house)
        again = await keyed(house)
        assert again.event("message_completed")["usage"] == {"prompt_tokens": 120, "generated_tokens": 9}
        return house.recorder

    seen = in_house(scenario)
    assert seen.value(rows.REQUESTS_TOTAL, ROUTE, "completed") == 2
    assert seen.value(rows.GENERATED_TOKENS_TOTAL) == seen.value(rows.TENANT_TOKENS_TOTAL, "demo", "generated") == 9
    assert seen.value(rows.PROMPT_TOKENS_TOTAL) == 120
    assert seen.value(rows.TIME_TO_FIRST_TOKEN_SECONDS) == 1
    assert seen.value(rows.FIRST_TOKEN_MISSED_TOTAL) == 0
    assert seen.value(rows.STREAM_DURATION_SECONDS) == 1
    assert [line["replayed"] for line in seen.logged(rows.LOG_REQUEST)] == [False, True]


def test_a_request_whose_client_leaves_the_replay_stays_completed():
    async def scenario(house):
        first = await keyed(house)
        again = house.client(QUESTION, model="sim:tokens=8", headers=KEY, pause=0.1)
        task = house.connect(again)
        await house.until(lambda: [turn.committed for turn in house.parts.live] == [True])
        again.leave()
        await task
        assert (await house.message()).text == first.text
        assert house.requests("completed") == 2

    in_house(scenario)


def test_two_replays_at_once_are_two_requests():
    async def scenario(house):
        first = await keyed(house)
        both = [house.client(QUESTION, model="sim:tokens=8", headers=KEY, pause=0.2) for _ in range(2)]
        tasks = [house.connect(client) for client in both]
        await house.until(lambda: [turn.committed for turn in house.parts.live] == [True, True])
        assert house.parts.live.get(first.event("message_start")["message_id"]) is None
        await asyncio.gather(*tasks)
        assert {client.text for client in both} == {first.text}

    in_house(scenario)
