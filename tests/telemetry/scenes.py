"""Scenes of a whole service in virtual time, one for each way in which a turn goes. For test_rows.py."""

import asyncio
from dataclasses import replace
from types import SimpleNamespace

from service import app
from service.errors import PersistFailed, RetrievalFailed
from service.upkeep import Upkeep
from telemetry import catalogue
from tests.flow.tools import Asks, Recorder, call


async def turns_that_end_in_every_way(house):
    await house.chat(headers={"idempotency-key": "k"}, model="sim:tokens=5")
    await house.chat(headers={"idempotency-key": "k"}, model="sim:tokens=5")  # told again
    await house.chat(model="sim:fail_times=1,tokens=5")
    await house.chat(model="sim:fail_at=3")
    await house.chat(model="sim:status=429,seed=7")
    await house.chat(model="sim:stall_at=3", headers={"x-request-timeout-ms": "1500"})
    await house.chat(model="sim:stall_at=0")
    await house.chat(key="Bearer nobody")
    await house.chat(key="Bearer nil")
    client = house.client()
    client.leave_in(0.5)
    await house.connect(client)


async def a_model_that_fails_until_it_is_not_asked_any_more(house):
    for _ in range(8):
        await house.chat(model="sim:fail_at=0")


async def a_turn_with_less(house):
    house.retriever.becomes(error=RetrievalFailed())
    await house.chat(model="sim:tokens=5")


async def a_database_that_fails(house):
    house.conditions.failing = 1.0
    await house.chat()
    house.conditions.failing = 0.0
    house.store.becomes(error=PersistFailed(), only="end_turn")
    await house.chat(model="sim:tokens=5")


async def a_tool_that_only_reads(house):
    house.routes.add("simulated", Asks([call("case_lookup", case_id="C-1042")]))
    await house.chat()


async def a_side_effect_that_a_human_allows_and_nobody_sees_the_end_of(house):
    house.routes.add("simulated", Asks([call()]))
    ended = house.connect(house.client(headers={"idempotency-key": "k"}))
    await house.until(lambda: house.toolbox.approvals.waiting)
    (stored,) = await house.store.pending_calls("demo")
    await house.store.decide_call(stored, approve=True, who="lead")
    house.toolbox.approvals.wake(stored.call_id)
    await ended


async def a_tool_whose_result_is_known_already(house):
    house.routes.add("simulated", Asks([call("case_lookup", case_id="C-1042")]))
    house.store.becomes(error=PersistFailed(), only="end_turn")
    for _ in range(2):
        await house.chat(headers={"idempotency-key": "k"})
        house.store.becomes()
        for ending in house.parts.unsettled:
            await house.store.end_turn(ending)
        house.parts.unsettled.clear()


async def a_process_that_is_gone(house):
    ended = house.connect(house.client(model="sim:tokens=2000,interval_ms=10"))
    await asyncio.sleep(12.0)
    await Upkeep(replace(house.parts, instance_id="i2"), house.store, (), 2.0)._beat()
    await ended


async def a_drain_that_cannot_end(house):
    house.routes.add("simulated", Asks([call()]))
    ended = house.connect(house.client())
    await house.until(lambda: house.where == "tool.call")
    service = SimpleNamespace(
        _parts=house.parts, _admittance=house.admittance, _jobs=SimpleNamespace(drain=asyncio.sleep)
    )
    await app.Service.drain(service, 0.1)
    await ended


async def a_turn_that_is_evaluated(house):
    house.work()
    await house.chat(model="sim:tokens=20")
    await house.until(lambda: house.recorder.value(catalogue.JOBS_TOTAL, "evaluation"))


SCENES = {
    turns_that_end_in_every_way: {},
    a_model_that_fails_until_it_is_not_asked_any_more: {},
    a_turn_with_less: {},
    a_database_that_fails: {},
    a_tool_that_only_reads: {},
    a_side_effect_that_a_human_allows_and_nobody_sees_the_end_of: {
        "tools": [Recorder(seconds=60.0).tool(approval=True)]
    },
    a_tool_whose_result_is_known_already: {},
    a_process_that_is_gone: {},
    a_turn_that_is_evaluated: {"sample_ratio": 1.0},
    a_drain_that_cannot_end: {"tools": [Recorder(seconds=60.0).tool()], "budgets": {}},
}
