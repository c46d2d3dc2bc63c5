"""What every state database must hold for an engine that hands jobs out elsewhere: offers, and the taking of a job."""

import pytest

from service.errors import Overloaded
from service.work import Backlog, Bounds, ClaimedJob, LeaseLost
from tests.contract.ledger import ANN, KINDS, LEASE, events, job, pass_time, submit
from tests.contract.stores import Bench

SOON = 60.0


async def offered(bench: Bench, most: int = 100, kind: str = "slow") -> list[str]:
    return [one.job_id for one in await bench.store.jobs.offer(kind, most, SOON)]


async def take(bench: Bench, job_id: str = "j1", worker: str = "w1"):
    return await bench.store.jobs.take(worker, job_id, LEASE)


async def let_offers_lapse(bench: Bench) -> None:
    def moved():
        yield "UPDATE jobs SET wakes_at = wakes_at - ?", (2 * SOON,)

    await bench.driver.write(moved())


def test_an_offer_tells_what_a_job_is_worked_on_by_and_is_made_once(database):
    async def scenario(bench: Bench) -> None:
        await submit(bench, job(1), job(2), job(3, kind="quick"))
        (one,) = await bench.store.jobs.offer("slow", 1, SOON)
        assert (one.job_id, one.tenant, one.kind, one.trace) == ("j1", "acme", "slow", {"traceparent": "00-1"})
        assert await bench.store.jobs.backlog() == {"quick": Backlog(1, 0, 0, 0), "slow": Backlog(2, 1, 0, 0)}
        assert await offered(bench) == ["j2"]
        assert await offered(bench) == []
        assert (await bench.store.jobs.find("acme", "j1")).status == "queued"

    database.run(scenario)


def test_what_nobody_has_taken_is_offered_again_and_what_has_ended_never(database):
    async def scenario(bench: Bench) -> None:
        await submit(bench, job(1), job(2), job(3))
        assert await offered(bench) == ["j1", "j2", "j3"]
        await bench.store.jobs.cancel("acme", "j2")
        assert isinstance(await take(bench, "j3"), ClaimedJob)
        await let_offers_lapse(bench)
        assert await offered(bench) == ["j1"]

    database.run(scenario)


def test_offers_go_round_the_tenants_and_begin_with_the_urgent_of_each(database):
    async def scenario(bench: Bench) -> None:
        await submit(bench, *(job(f"a{number}", "a") for number in range(4)), job("a9", "a", priority=9))
        await submit(bench, job("b1", "b", priority=0), job("b2", "b", priority=1))
        assert await offered(bench) == ["ja9", "jb2", "ja0", "jb1", "ja1", "ja2", "ja3"]

    database.run(scenario)


def test_a_tenant_that_has_jobs_out_waits_for_those_who_have_none(database):
    async def scenario(bench: Bench) -> None:
        await submit(bench, *(job(f"a{number}", "a", priority=9) for number in range(4)))
        assert await offered(bench, 2) == ["ja0", "ja1"]
        await submit(bench, job("b1", "b"), job("b2", "b"))
        assert await offered(bench, 3) == ["jb1", "jb2", "ja2"]

    database.run(scenario)


def test_a_job_is_taken_once_for_as_long_as_its_lease_runs(database):
    async def scenario(bench: Bench) -> None:
        await submit(bench, job())
        taken = await take(bench)
        assert (taken.job_id, taken.principal, taken.fence, taken.recovered) == ("j1", ANN, 1, False)
        assert await take(bench, worker="w2") == "running"
        assert set(await bench.store.jobs.standing("w1")) == {"j1"}
        assert await events(bench) == ["job_queued", "job_started"]
        assert await bench.store.jobs.claim("w3", KINDS, LEASE) is None

    database.run(scenario)


def test_whose_lease_ran_out_is_fenced_off_by_who_takes_the_job_over(database):
    async def scenario(bench: Bench) -> None:
        await submit(bench, job())
        first = await take(bench)
        await bench.store.jobs.begin_step("j1", first.fence, "s0")
        await bench.store.jobs.finish_step("j1", first.fence, "s0", 7, 0.5)
        await pass_time(bench, LEASE + 1)
        second = await take(bench, worker="w2")
        assert (second.fence, second.recovered, second.recoveries, second.finished) == (2, True, 1, {"s0": 7})
        for late in (
            bench.store.jobs.begin_step("j1", first.fence, "s1"),
            bench.store.jobs.finish_step("j1", first.fence, "s0", 8, 0.6),
            bench.store.jobs.note_progress("j1", first.fence, 0.7),
            bench.store.jobs.end("j1", first.fence, "completed"),
            bench.store.jobs.give_back("j1", first.fence),
        ):
            with pytest.raises(LeaseLost):
                await late

    database.run(scenario)


def test_what_has_ended_cannot_be_taken_and_tells_how(database):
    async def scenario(bench: Bench) -> None:
        await submit(bench, job(1), job(2))
        taken = await take(bench)
        await bench.store.jobs.end("j1", taken.fence, "failed", code="timeout")
        await bench.store.jobs.cancel("acme", "j2")
        assert (await take(bench), await take(bench, "j2"), await take(bench, "j3")) == ("failed", "cancelled", None)

    database.run(scenario)


def test_a_job_that_lost_its_worker_long_ago_is_offered_again_and_one_that_just_did_is_not(database):
    async def scenario(bench: Bench) -> None:
        await submit(bench, job())
        await offered(bench)
        await take(bench)
        await let_offers_lapse(bench)
        assert (await bench.store.jobs.backlog())["slow"] == Backlog(0, 0, 1, 0)
        assert await offered(bench) == []
        await pass_time(bench, 60.0)
        assert (await bench.store.jobs.backlog())["slow"] == Backlog(0, 0, 1, 1)
        assert await offered(bench) == ["j1"]
        assert (await bench.store.jobs.backlog())["slow"].lost == 0

    database.run(scenario)


def test_what_was_given_back_can_be_offered_and_taken_again_at_once(database):
    async def scenario(bench: Bench) -> None:
        await submit(bench, job())
        await offered(bench)
        taken = await take(bench)
        await bench.store.jobs.give_back("j1", taken.fence)
        assert await offered(bench) == ["j1"]
        again = await take(bench, worker="w2")
        assert (again.fence, again.recovered, again.recoveries) == (2, False, 0)

    database.run(scenario)


def test_jobs_that_embedded_workers_left_are_offered_and_the_other_way_round(database):
    async def scenario(bench: Bench) -> None:
        await submit(bench, job(1), job(2))
        claimed = await bench.store.jobs.claim("w1", KINDS, LEASE)
        await bench.store.jobs.give_back(claimed.job_id, claimed.fence)
        assert await offered(bench) == ["j1", "j2"]
        await let_offers_lapse(bench)
        assert (await bench.store.jobs.claim("w1", KINDS, LEASE)).job_id == "j1"

    database.run(scenario)


def test_the_bounds_of_the_queue_count_what_was_offered(database):
    async def scenario(bench: Bench) -> None:
        await submit(bench, job(1))
        await offered(bench)
        with pytest.raises(Overloaded):
            await bench.store.jobs.submit(job(2), Bounds(1, 10))

    database.run(scenario)
