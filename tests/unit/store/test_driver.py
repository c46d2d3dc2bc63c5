"""Who may withdraw what, and who stays until the end is known: the rules of one operation on its way."""

import asyncio

import pytest

from service.errors import PersistFailed
from service.store.driver import Job
from tests.virtual_loop import run


def operation():
    yield "SELECT 1", ()


async def started(job, **limits):
    task = asyncio.create_task(job.outcome(5.0, **limits))
    await asyncio.sleep(0.1)
    return task


def now():
    return asyncio.get_running_loop().time()


def test_who_claims_first_has_it():
    async def scenario():
        job = Job(operation())
        assert job.claim()
        assert not job.claim()

    run(scenario())


def test_a_cancelled_wait_withdraws_what_nobody_has_claimed():
    async def scenario():
        job = Job(operation())
        waiting = await started(job)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert not job.claim()
        assert now() == 0.1

    run(scenario())


def test_a_cancelled_wait_stays_until_the_end_is_known_however_often_it_is_cancelled():
    async def scenario():
        told = []
        job = Job(operation(), told.append)
        waiting = await started(job)
        job.claim()
        for _ in range(3):
            waiting.cancel()
            await asyncio.sleep(0.1)
        assert not waiting.done()
        job.result, job.executed = "done", True
        job.settle()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert told == ["done"]

    run(scenario())


def test_a_cancelled_wait_stays_no_longer_than_its_limit_and_the_commit_is_told_later():
    async def scenario():
        told = []
        job = Job(operation(), told.append)
        waiting = await started(job, stay=1.0)
        job.claim()
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert now() == pytest.approx(1.1)
        job.executed = True
        job.settle()
        assert told == [None]

    run(scenario())


def test_who_only_reads_goes_at_once():
    async def scenario():
        job = Job(operation())
        waiting = await started(job, stay=0.0)
        job.claim()
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert now() == 0.1

    run(scenario())


@pytest.mark.parametrize("seed", range(20))
def test_a_cancellation_and_an_end_at_the_same_moment_lose_neither(seed):
    async def scenario():
        loop = asyncio.get_running_loop()
        told = []
        job = Job(operation(), told.append)
        waiting = await started(job)
        job.claim()
        job.executed = True
        loop.call_later(1, job.settle)
        loop.call_later(1, waiting.cancel)
        await asyncio.wait([waiting])
        assert told == [None]
        assert now() == pytest.approx(1.1)

    run(scenario(), seed=seed)


def test_what_is_not_answered_in_time_is_withdrawn_and_fails():
    async def scenario():
        told = []
        job = Job(operation(), told.append)
        with pytest.raises(PersistFailed, match="in time"):
            await job.outcome(5.0)
        assert now() == 5.0
        assert not job.claim()
        job.settle()
        assert told == [], "it was never executed"

    run(scenario())


def test_a_failure_is_raised_and_no_commit_told():
    async def scenario():
        told = []
        job = Job(operation(), told.append)
        waiting = await started(job)
        job.claim()
        job.executed, job.error = True, ValueError("no")
        job.settle()
        with pytest.raises(ValueError, match="no"):
            await waiting
        assert told == []

    run(scenario())
