"""A worker: steps and their checkpoints, crashes, cancellations, leases, the way out at the end."""

import asyncio

import pytest

from service.errors import InvalidAnswer, PersistFailed, ProviderFailure
from service.runtime.shelter import together
from telemetry import catalogue as rows
from tests.unit.jobs.yard import in_yard


def completed_steps(events):
    return [event[1] for event in events if event[0] == "step_completed"]


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


def test_after_a_crash_another_worker_goes_on_after_the_last_checkpoint():
    async def scenario(yard):
        yard.stages(4, 2.0)
        first = yard.worker()
        await yard.submit()
        await asyncio.sleep(5.0)  # in the third step
        await yard.crash(first)
        yard.worker()
        await yard.until_ended("j1")
        assert yard.did == ["j1/s0", "j1/s1", "j1/s2", "j1/s2", "j1/s3"]
        events = await yard.events()
        assert completed_steps(events) == ["s0", "s1", "s2", "s3"]
        assert events.count("job_started") == 2
        assert (await yard.job()).result == "[0, 1, 2, 3]"
        assert yard.recorder.value(rows.JOBS_RECOVERED_TOTAL, "test") == 1
        assert yard.recorder.value(rows.JOBS_TOTAL, "test", "completed") == 1

    in_yard(scenario)


def test_a_dead_worker_s_job_is_taken_over_within_its_lease_and_a_living_one_s_never():
    async def scenario(yard):
        yard.stages(1, 60.0)
        first, second = yard.worker(places=1), yard.worker(places=1)
        await yard.submit("j1")
        await yard.submit("j2")
        await yard.until(lambda: len(yard.did) == 2)
        await asyncio.sleep(30.0)
        assert len(yard.did) == 2
        dead = first if first.crew.held[0].run.claimed.job_id == "j1" else second
        await yard.crash(dead)
        yard.worker()
        before = asyncio.get_running_loop().time()
        await yard.until(lambda: len(yard.did) == 3)
        assert asyncio.get_running_loop().time() - before < 11.0
        await yard.until_ended("j1", "j2")
        assert sorted(yard.did) == ["j1/s0", "j1/s0", "j2/s0"]

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


def test_a_failure_that_may_pass_is_tried_again_and_one_that_may_not_ends_the_job():
    async def scenario(yard):
        failures = [ProviderFailure("5xx", retry_safe=True), ProviderFailure("5xx", retry_safe=True), None]

        async def flaky(use, given):
            if error := failures.pop(0):
                raise error
            return "well"

        async def bad(use, given):
            raise InvalidAnswer

        async def flow(job, given):
            return await job.step(yard.step("flaky", flaky))

        async def hopeless(job, given):
            return await job.step(yard.step("bad", bad, attempts=2))

        yard.kind(flow)
        yard.kind(hopeless, name="other")
        yard.worker()
        await yard.submit("j1")
        await yard.submit("j2", kind="other")
        await yard.until_ended("j1", "j2")
        assert (await yard.job("j1")).result == '"well"'
        attempts = [event.data["attempt"] for event in await yard.ledger.log("j1", 2, 10) if "attempt" in event.data]
        assert attempts == [1, 2, 3, 3]
        failed = await yard.job("j2")
        assert (failed.status, failed.error_code) == ("failed", "invalid_answer")
        assert yard.did.count("j2/bad") == 2
        assert yard.recorder.value(rows.JOBS_TOTAL, "other", "failed") == 1

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


def test_a_job_s_total_counts_across_crashes():
    async def scenario(yard):
        yard.stages(10, 5.0, total=20.0)
        first = yard.worker()
        await yard.submit()
        await asyncio.sleep(12.0)
        await yard.crash(first)
        yard.worker()
        await yard.until_ended("j1")
        assert (await yard.job()).error_code == "timeout"

    in_yard(scenario)


def test_a_job_that_no_worker_survives_is_given_up():
    async def scenario(yard):
        yard.stages(1, 5.0, total=100_000.0)
        await yard.submit()
        for _ in range(11):
            worker = yard.worker()
            await yard.until(lambda worker=worker: len(worker.crew))
            await yard.crash(worker)
        yard.worker()
        await yard.until_ended("j1")
        job = await yard.job()
        assert (job.status, job.error_code) == ("failed", "internal")
        assert yard.recorder.value(rows.JOBS_RECOVERED_TOTAL, "test") == 11

    in_yard(scenario)


def test_a_step_that_does_not_come_to_its_end_in_time_is_stopped_and_given_back():
    async def scenario(yard):
        yard.stages(1, 30.0)
        first = yard.worker()
        await yard.submit()
        await yard.until(lambda: yard.did)
        before = asyncio.get_running_loop().time()
        await first.drain(10.0)
        assert asyncio.get_running_loop().time() - before == pytest.approx(10.0, abs=0.5)
        assert (await yard.job()).status == "queued"

    in_yard(scenario)


def test_who_lost_its_lease_stops_at_once_and_records_nothing():
    async def scenario(yard):
        yard.stages(2, 40.0)
        first = yard.worker()
        await yard.submit()
        await yard.until(lambda: yard.did)
        first.crew.store = Forgetful(first.crew.store)  # it believes that it renews
        first.crew.draining = True  # and leaves the job to the other
        second = yard.worker()
        await yard.until(lambda: len(second.crew))
        await asyncio.sleep(1.0)
        assert len(first.crew) == 0
        await yard.until_ended("j1")
        assert completed_steps(await yard.events()) == ["s0", "s1"]
        assert yard.did == ["j1/s0", "j1/s0", "j1/s1"]
        assert yard.recorder.value(rows.JOBS_TOTAL) == 1

    in_yard(scenario)


class Forgetful:
    """A store that forgets to renew."""

    def __init__(self, store):
        self._store = store

    def __getattr__(self, name):
        return getattr(self._store, name)

    async def renew(self, worker_id, lease):
        pass


def test_while_the_database_is_down_a_job_stops_before_somebody_else_may_begin_it():
    async def scenario(yard):
        yard.stages(1, 100.0)
        worker = yard.worker()
        await yard.submit()
        await yard.until(lambda: yard.did)
        yard.conditions.down = True
        before = asyncio.get_running_loop().time()
        await yard.until(lambda: not len(worker.crew))
        assert asyncio.get_running_loop().time() - before < 11.0
        yard.conditions.down = False
        await yard.until_ended("j1")
        assert (await yard.job()).status == "completed"

    in_yard(scenario)


def test_a_database_that_fails_now_and_then_loses_nothing():
    async def scenario(yard):
        yard.conditions.failing = 0.3
        yard.stages(4, 0.5)
        yard.worker()
        yard.worker()
        for number in range(10):
            while True:
                try:
                    await yard.submit(f"j{number}")
                    break
                except PersistFailed:
                    await asyncio.sleep(0.1)
        await asyncio.sleep(300.0)
        yard.conditions.failing = 0.0
        for number in range(10):
            assert (await yard.job(f"j{number}")).status == "completed"
            assert completed_steps(await yard.events(f"j{number}")) == ["s0", "s1", "s2", "s3"]

    for seed in range(3):
        in_yard(scenario, seed=seed)


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


def test_whatever_crashes_when_every_job_ends_and_no_finished_step_runs_again():
    async def scenario(yard):
        yard.stages(4, 1.5)
        random = yard.world.random
        for _ in range(3):
            yard.worker()
        names = [f"j{number}" for number in range(20)]
        for name in names:
            await yard.submit(name, tenant=random.choice(["acme", "rival"]))
        for _ in range(8):
            await asyncio.sleep(random.uniform(0.5, 6.0))
            await yard.crash(random.choice(yard.workers))
            yard.worker()

        async def done():
            return [(await yard.job(name, t)) for name in names for t in ("acme", "rival")]

        async def all_ended():
            return all(job is None or job.ended_at for job in await done())

        await yard.until(all_ended)
        for name in names:
            events = await yard.events(name)
            assert completed_steps(events) == ["s0", "s1", "s2", "s3"]
            assert events[-1] == "job_completed"

    for seed in range(5):
        in_yard(scenario, seed=seed)
