"""A worker and those that are lost: crashes, leases that run out, a database that is away, the way out at the end."""

import asyncio

import pytest

from service.errors import PersistFailed
from telemetry import catalogue as rows
from tests.unit.jobs.yard import in_yard


def completed_steps(events):
    return [event[1] for event in events if event[0] == "step_completed"]


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
