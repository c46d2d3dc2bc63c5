"""Which finished turns are evaluated, and at nobody's cost."""

import asyncio

import pytest
from opentelemetry.sdk.trace.sampling import TraceIdRatioBased

from service.errors import PersistFailed
from service.jobs.sampling import ROOM
from service.settings_groups import JobSettings
from service.work import NewJob
from telemetry import catalogue as rows
from tests.flow.evaluating import evaluations, judged, sampled
from tests.flow.house import ANN, in_house
from tests.flow.jobs import KEY, ended, in_background, job_id_of

# --- which turns ---------------------------------------------------------------------------------------------------


def test_no_turn_is_evaluated_where_nobody_asked_for_it():
    async def scenario(house):
        house.work()
        await house.chat(model="sim:tokens=5")
        await asyncio.sleep(5.0)
        assert await evaluations(house) == []
        assert house.recorder.value(rows.EVALUATIONS_SAMPLED_TOTAL) == 0

    in_house(scenario)


def test_a_share_of_the_turns_is_evaluated_chosen_as_traces_are():
    async def scenario(house):
        house.workforce.sampler.start()
        for number in range(200):
            await house.chat(model="sim:tokens=1,ttft_ms=1", session=f"s{number}")
        await asyncio.sleep(1.0)
        jobs = await evaluations(house)
        sampler = TraceIdRatioBased(0.25)
        traces = [int(span["trace_id"], 16) for span in house.recorder.named("POST /chat/stream")]
        kept = [trace for trace in traces if sampler.should_sample(None, trace, "").decision.is_sampled()]
        assert len(jobs) == len(kept)
        assert 25 <= len(jobs) <= 75  # a quarter of 200

    in_house(scenario, sample_ratio=0.25)


@pytest.mark.parametrize("model", ["sim:fail_at=2", "sim:tokens=5,stall_at=2"])
def test_a_turn_that_did_not_complete_is_not_evaluated(model):
    async def scenario(house):
        await house.chat(model=model)
        await asyncio.sleep(1.0)
        assert house.recorder.value(rows.EVALUATIONS_SAMPLED_TOTAL) == 0

    in_house(scenario, sample_ratio=1.0)


def test_an_answer_that_is_told_again_is_not_evaluated_again():
    async def scenario(house):
        house.workforce.sampler.start()
        for _ in range(3):
            await house.chat(model="sim:tokens=5", headers=KEY)
        assert await sampled(house) == {"queued": 1, "refused": 0, "failed": 0}

    in_house(scenario, sample_ratio=1.0)


def test_a_turn_in_the_background_is_evaluated_once_and_its_acceptance_is_not():
    async def scenario(house):
        house.work()
        await ended(house, job_id_of(await in_background(house, model="sim:tokens=20")))
        _, scores = await judged(house)
        assert scores["grounding"][1] == "pass"
        await asyncio.sleep(2.0)
        assert len(await evaluations(house)) == 1

    in_house(scenario, sample_ratio=1.0)


# --- at nobody's cost ----------------------------------------------------------------------------------------------


async def length_of(house):
    """The time that one turn takes, to the return of its request."""
    before = asyncio.get_running_loop().time()
    client = await house.chat(model="sim:tokens=5")
    assert client.types[-1] == "message_completed"
    return asyncio.get_running_loop().time() - before


def test_a_turn_waits_for_nothing_of_its_evaluation():
    async def scenario(house):
        house.workforce.sampler.start()
        quick = await length_of(house)
        submit = house.store.jobs.submit

        async def slowly(*args):
            await asyncio.sleep(4.0)
            return await submit(*args)

        house.store.jobs.submit = slowly
        assert await length_of(house) == pytest.approx(quick, abs=0.1)
        assert await sampled(house, 2) == {"queued": 2, "refused": 0, "failed": 0}

    in_house(scenario, sample_ratio=1.0)


def test_a_queue_that_is_half_full_takes_no_sample_and_the_turn_knows_nothing_of_it():
    half = JobSettings().tenant_queue // 2

    async def scenario(house):
        desk = house.workforce.desk
        for number in range(half):
            await desk.submit(NewJob(f"j{number}", ANN, "report", '{"question": "?"}'))
        house.workforce.sampler.start()
        client = await house.chat(model="sim:tokens=5")
        assert client.types[-1] == "message_completed"
        assert await sampled(house) == {"queued": 0, "refused": 1, "failed": 0}
        await desk.submit(NewJob("theirs", ANN, "report", '{"question": "?"}'))  # there is room for what users ask for

    in_house(scenario, sample_ratio=1.0)


def test_a_database_that_fails_loses_the_sample_and_nothing_else():
    async def scenario(house):
        house.workforce.sampler.start()

        async def fails(*_):
            raise PersistFailed

        before, house.store.jobs.submit = house.store.jobs.submit, fails
        await house.chat(model="sim:tokens=5")
        assert await sampled(house) == {"queued": 0, "refused": 0, "failed": 1}
        house.store.jobs.submit = before
        await house.chat(model="sim:tokens=5")
        assert (await sampled(house, 2))["queued"] == 1

    in_house(scenario, sample_ratio=1.0)


def test_samples_that_nobody_writes_are_bounded_and_all_of_them_are_counted_in_the_end():
    async def scenario(house):
        sampler = house.workforce.sampler

        async def never(*_):
            await asyncio.get_running_loop().create_future()

        house.store.jobs.submit = never
        sampler.start()
        await asyncio.sleep(0.1)
        for number in range(ROOM + 10):
            sampler.sample(ANN, f"m{number}")
            await asyncio.sleep(0)
        before = asyncio.get_running_loop().time()
        await sampler.stop()
        assert asyncio.get_running_loop().time() - before < 1.1
        assert await sampled(house) == {"queued": 0, "refused": 9, "failed": ROOM + 1}
        return house.recorder

    in_house(scenario, sample_ratio=1.0)
