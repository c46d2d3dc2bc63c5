"""A worker and the steps of a job: their budgets, attempts, parts and progress, and what is told of them."""

import asyncio

import pytest

from service.runtime.shelter import together
from telemetry import catalogue as rows
from tests.unit.jobs.yard import in_yard


def test_how_long_a_job_waited_and_how_long_it_took_is_told():
    async def scenario(yard):
        yard.stages(3, 1.0)
        yard.worker()
        await yard.submit()
        await yard.until_ended("j1")
        seen = yard.recorder
        assert seen.total(rows.JOB_DURATION_SECONDS, "test") == pytest.approx(3.0, abs=0.1)
        assert seen.total(rows.JOB_WAIT_SECONDS, "test") == pytest.approx(0.25, abs=0.3)

    in_yard(scenario)


def test_a_worker_that_is_nudged_begins_at_once():
    async def scenario(yard):
        yard.stages(1, 0.0)
        worker = yard.worker()
        await asyncio.sleep(0.1)
        await yard.submit()
        worker.nudge()
        await yard.until_ended("j1")
        assert yard.recorder.total(rows.JOB_WAIT_SECONDS, "test") < 0.02

    in_yard(scenario)


def test_a_cancellation_stops_what_is_awaited_within_a_second():
    async def scenario(yard):
        stopped = []

        async def sleep_long(use, given):
            try:
                await asyncio.sleep(1000.0)
            finally:
                stopped.append(asyncio.get_running_loop().time())

        async def flow(job, given):
            await job.step(yard.step("long", sleep_long, budget=2000.0))

        yard.kind(flow, total=5000.0)
        yard.worker()
        await yard.submit()
        await yard.until(lambda: yard.did)
        asked = asyncio.get_running_loop().time()
        await yard.ledger.cancel("acme", "j1")
        await yard.until_ended("j1")
        assert stopped[0] - asked < 1.0
        job = await yard.job()
        assert (job.status, job.error_code) == ("cancelled", "cancelled")
        assert (await yard.events())[-1] == "job_cancelled"
        assert yard.recorder.value(rows.JOBS_TOTAL, "test", "cancelled") == 1

    in_yard(scenario)


def test_a_step_has_its_budget_and_a_job_its_total():
    async def scenario(yard):
        async def endless(use, given):
            await asyncio.sleep(10_000.0)

        async def flow(job, given):
            await job.step(yard.step("slow", endless, budget=5.0, attempts=2))

        async def long(job, given):
            await job.step(yard.step("slow", endless, budget=10_000.0))

        yard.kind(flow)
        yard.kind(long, name="other", total=30.0)
        yard.worker()
        await yard.submit("j1")
        await yard.submit("j2", kind="other")
        await yard.until_ended("j1", "j2")
        for one in ("j1", "j2"):
            job = await yard.job(one)
            assert (job.status, job.error_code) == ("failed", "timeout")
        assert yard.did.count("j1/slow") == 2
        assert (await yard.job("j2")).ended_at - (await yard.job("j2")).started_at == pytest.approx(30.0, abs=0.1)

    in_yard(scenario)


def test_parts_of_a_step_run_at_once_and_those_that_finished_do_not_run_again():
    async def scenario(yard):
        async def work(use, seconds):
            await asyncio.sleep(seconds)
            return seconds

        step = yard.step("part", work)

        async def flow(job, given):
            parts = (job.step(step, seconds, part=str(seconds), share=0.25) for seconds in (1.0, 2.0, 8.0, 9.0))
            return sum(await together(*parts))

        yard.kind(flow)
        first = yard.worker()
        await yard.submit()
        await asyncio.sleep(4.0)
        assert (await yard.job()).progress == 0.5
        await yard.crash(first)
        yard.worker()
        await yard.until_ended("j1")
        assert (await yard.job()).result == "20.0"
        assert sorted(yard.did) == sorted([f"j1/part:{n}" for n in (1.0, 2.0, 8.0, 8.0, 9.0, 9.0)])

    in_yard(scenario)


def test_progress_within_a_step_is_noted_now_and_then():
    async def scenario(yard):
        async def work(use, given):
            for number in range(100):
                await use.note(number / 100)
                await asyncio.sleep(0.05)

        async def flow(job, given):
            await job.step(yard.step("long", work), share=0.5)

        yard.kind(flow)
        yard.worker()
        await yard.submit()
        await yard.until_ended("j1")
        noted = [event.data["progress"] for event in await yard.ledger.log("j1", 0, 99) if event.type == "progress"]
        assert 8 <= len(noted) <= 11
        assert noted == sorted(noted)
        assert noted[-1] <= 0.5

    in_yard(scenario)


def test_a_worker_has_no_more_jobs_at_once_than_places_and_than_the_kind_allows():
    async def scenario(yard):
        yard.stages(1, 5.0, concurrency=2)
        yard.stages(1, 5.0, name="other")
        worker = yard.worker(places=3)
        for number in range(6):
            await yard.submit(f"j{number}")
            await yard.submit(f"o{number}", kind="other")
        most = 0
        while await yard.ledger.waiting() != ({}, False):
            kinds = [held.run.kind.name for held in worker.crew.held]
            assert len(kinds) <= 3
            assert kinds.count("test") <= 2
            most = max(most, len(kinds))
            await asyncio.sleep(0.5)
        assert most == 3

    in_yard(scenario)
