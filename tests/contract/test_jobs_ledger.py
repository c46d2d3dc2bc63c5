"""What every state database must hold of jobs: what is queued, found, cancelled, ended and forgotten."""

import asyncio
from dataclasses import replace

import pytest

from service.errors import Conflict, Overloaded, RateLimited
from service.ports import Once
from service.work import Bounds, LeaseLost
from tests.contract.ledger import WIDE, claim, drain, events, job, pass_time, submit
from tests.contract.stores import Bench


def test_a_job_is_queued_with_its_first_event_and_its_position(database):
    async def scenario(bench: Bench) -> None:
        told = []
        accepted = await bench.store.jobs.submit(job(1), WIDE, told.append)
        assert told == [accepted]
        assert (accepted.replayed, accepted.job.status, accepted.job.position) == (False, "queued", 1)
        await submit(bench, job(2), job(3, priority=9))
        positions = [(await bench.store.jobs.find("acme", f"j{number}")).position for number in (1, 2, 3)]
        assert positions == [2, 3, 1]
        assert await events(bench) == ["job_queued"]
        assert await bench.store.jobs.waiting() == ({"slow": 3}, False)

    database.run(scenario)


def test_another_tenant_s_job_looks_like_none(database):
    async def scenario(bench: Bench) -> None:
        await submit(bench, job())
        assert await bench.store.jobs.find("evil", "j1") is None
        assert await bench.store.jobs.cancel("evil", "j1") is None
        assert await bench.store.jobs.page("evil", None, 10) == ()
        assert (await bench.store.jobs.find("acme", "j1")).status == "queued"

    database.run(scenario)


def test_pages_go_from_the_newest_to_the_oldest(database):
    async def scenario(bench: Bench) -> None:
        await submit(bench, *(job(number) for number in range(5)))
        first = await bench.store.jobs.page("acme", None, 2)
        second = await bench.store.jobs.page("acme", first[-1].seq, 10)
        assert await bench.store.jobs.page("acme", None, 2, first[0].kind) == first
        assert await bench.store.jobs.page("acme", None, 2, "another") == ()
        assert [one.job_id for one in (*first, *second)] == ["j4", "j3", "j2", "j1", "j0"]

    database.run(scenario)


def test_a_job_ends_once_with_its_result_and_a_last_event(database):
    async def scenario(bench: Bench) -> None:
        await submit(bench, job(1), job(2))
        for status, last in (("completed", "job_completed"), ("failed", "job_failed")):
            claimed = await claim(bench)
            values = {"result": {"a": 1}} if status == "completed" else {"code": "timeout"}
            assert 0 <= await bench.store.jobs.end(claimed.job_id, claimed.fence, status, **values) < 5
            stored = await bench.store.jobs.find("acme", claimed.job_id)
            assert stored.status == status
            assert (stored.result, stored.error_code, stored.progress) == (
                ('{"a": 1}', "", 1.0) if status == "completed" else (None, "timeout", 0.0)
            )
            assert (await events(bench, claimed.job_id))[-1] == last
            with pytest.raises(LeaseLost):
                await bench.store.jobs.end(claimed.job_id, claimed.fence, "failed", code="internal")

    database.run(scenario)


def test_what_waits_is_cancelled_at_once_and_what_runs_is_asked_to_stop(database):
    async def scenario(bench: Bench) -> None:
        await submit(bench, job(1), job(2))
        claimed = await claim(bench)
        ledger = bench.store.jobs
        assert await ledger.cancel("acme", "j2") == ("queued", "slow")
        assert (await events(bench, "j2"))[-1] == "job_cancelled"
        assert await ledger.cancel("acme", "j1") == ("running", "slow")
        assert (await ledger.standing("w1"))["j1"].cancelled
        await ledger.end("j1", claimed.fence, "cancelled", code="cancelled")
        assert await ledger.cancel("acme", "j1") == ("cancelled", "slow")
        assert await claim(bench) is None

    database.run(scenario)


def test_the_queue_is_bounded_for_a_tenant_and_for_all(database):
    async def scenario(bench: Bench) -> None:
        ledger, bounds = bench.store.jobs, Bounds(queue=3, tenant_queue=2)
        await ledger.submit(job(1), bounds)
        await ledger.submit(job(2), bounds)
        with pytest.raises(RateLimited) as refused:
            await ledger.submit(job(3), bounds)
        assert (refused.value.reason, refused.value.retry_after) == ("tenant_queue_full", 60.0)
        await ledger.submit(job(4, "other"), bounds)
        with pytest.raises(Overloaded) as overloaded:
            await ledger.submit(job(5, "third"), bounds)
        assert overloaded.value.reason == "queue_full"
        assert len(await drain(bench)) == 3
        await ledger.submit(job(6), bounds)
        await ledger.submit(job(7), bounds)
        with pytest.raises(RateLimited) as refused:
            await ledger.submit(job(8), bounds)
        assert refused.value.retry_after == 20.0  # three ended in the last minute

    database.run(scenario)


def test_a_key_makes_one_job_and_another_body_is_a_conflict(database):
    async def scenario(bench: Bench) -> None:
        once = Once("/jobs", "key", "0" * 64)
        results = await asyncio.gather(*(bench.store.jobs.submit(job(number, once=once), WIDE) for number in range(5)))
        assert len({result.job.job_id for result in results}) == 1
        assert [result.replayed for result in results].count(False) == 1
        with pytest.raises(Conflict):
            await bench.store.jobs.submit(job(9, once=replace(once, body_hash="1" * 64)), WIDE)
        assert len(await drain(bench)) == 1
        assert (await bench.store.jobs.submit(job(10, once=once), WIDE)).job.status == "completed"

    database.run(scenario)


def test_what_ended_long_ago_is_forgotten_with_all_that_hangs_on_it(database):
    async def scenario(bench: Bench) -> None:
        await submit(bench, job(1), job(2))
        claimed = await claim(bench)
        await bench.store.jobs.begin_step("j1", claimed.fence, "one")
        await bench.store.jobs.end("j1", claimed.fence, "completed")
        assert await bench.store.jobs.forget(3600) == 0
        await pass_time(bench, 3601)
        assert await bench.store.jobs.forget(3600) == 1
        assert await bench.store.jobs.find("acme", "j1") is None
        assert await bench.store.jobs.log("j1", 0, 10) == ()
        assert (await bench.store.jobs.find("acme", "j2")).status == "queued"

    database.run(scenario)
