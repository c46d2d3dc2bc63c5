"""What every state database must hold of jobs: claims, leases, fences, checkpoints, and a log without a gap."""

import asyncio
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from service.errors import Conflict, Overloaded, RateLimited
from service.ports import Once, Principal
from service.store import jobs
from service.work import Bounds, LeaseLost, NewJob
from tests.contract.stores import Bench, Database, Inline, Postgres, Sqlite

WIDE = Bounds(1000, 1000)
KINDS = ("slow", "quick")
LEASE = 10.0
ANN = Principal("acme", "ann", frozenset({"analyst", "approver"}), "k1")


@pytest.fixture(params=["inline", "sqlite", "postgres"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    match request.param:
        case "inline":
            yield Inline()
        case "sqlite":
            yield Sqlite(tmp_path)
        case "postgres":
            with request.getfixturevalue("cluster").migrated_database() as url:
                yield Postgres(url)


def job(number: object = 1, tenant: str = "acme", **rest) -> NewJob:
    values = {"kind": "slow", "input": '{"n": 1}', "trace": {"traceparent": "00-1"}} | rest
    return NewJob(f"j{number}", replace(ANN, tenant=tenant), **values)


async def submit(bench: Bench, *new: NewJob) -> None:
    for one in new:
        await bench.store.jobs.submit(one, WIDE)


async def claim(bench: Bench, worker: str = "w1"):
    return await bench.store.jobs.claim(worker, KINDS, LEASE)


async def drain(bench: Bench) -> list[str]:
    """Claim and complete until nothing waits; return the ids in their order."""
    order = []
    while (claimed := await claim(bench)) is not None:
        order.append(claimed.job_id)
        await bench.store.jobs.end(claimed.job_id, claimed.fence, "completed")
    return order


async def pass_time(bench: Bench, seconds: float) -> None:
    """Let time pass for the leases and for what waits, by moving what was written into the past."""

    def moved():
        yield "UPDATE jobs SET lease_until = lease_until - ?, created_at = created_at - ?", (seconds, seconds)
        yield "UPDATE jobs SET ended_at = ended_at - ?", (seconds,)

    await bench.driver.write(moved())


async def events(bench: Bench, job_id: str = "j1") -> list[str]:
    found = await bench.store.jobs.log(job_id, 0, 1000)
    assert [event.number for event in found] == list(range(1, len(found) + 1)), "without a gap"
    assert sorted(event.at for event in found) == [event.at for event in found]
    return [event.type for event in found]


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


def test_a_claim_tells_all_that_the_work_needs_and_nobody_else_gets_it(database):
    async def scenario(bench: Bench) -> None:
        await submit(bench, job())
        claimed = await claim(bench)
        assert (claimed.job_id, claimed.principal, claimed.kind, claimed.input) == ("j1", ANN, "slow", '{"n": 1}')
        assert claimed.trace == {"traceparent": "00-1"}
        assert (claimed.fence, claimed.recovered, claimed.cancelled, claimed.finished) == (1, False, False, {})
        assert 0 <= claimed.waited < 5
        assert 0 <= claimed.age < 5
        assert await claim(bench, "w2") is None
        assert set(await bench.store.jobs.standing("w1")) == {"j1"}
        assert await bench.store.jobs.standing("w2") == {}

    database.run(scenario)


def test_of_many_claims_at_once_each_gets_a_job_of_its_own(database):
    async def scenario(bench: Bench) -> None:
        await submit(bench, *(job(number, f"t{number % 3}") for number in range(12)))
        claimed = [one for _ in range(6) for one in await asyncio.gather(*(claim(bench, f"w{n}") for n in range(4)))]
        ids = [one.job_id for one in claimed if one is not None]
        assert len(ids) == len(set(ids)) == 12

    database.run(scenario)


def test_only_the_kinds_that_are_asked_for_are_claimed(database):
    async def scenario(bench: Bench) -> None:
        await submit(bench, job(1), job(2, kind="quick"))
        assert (await bench.store.jobs.claim("w1", ("quick",), LEASE)).job_id == "j2"
        assert await bench.store.jobs.claim("w1", ("quick",), LEASE) is None

    database.run(scenario)


def test_the_more_urgent_goes_first_and_the_earlier_among_equals(database):
    async def scenario(bench: Bench) -> None:
        await submit(bench, job(1, priority=0), job(2), job(3), job(4, priority=9))
        assert await drain(bench) == ["j4", "j2", "j3", "j1"]

    database.run(scenario)


def test_what_has_waited_long_enough_goes_before_what_is_more_urgent(database):
    async def scenario(bench: Bench) -> None:
        await submit(bench, job(1, priority=0))
        await pass_time(bench, 9.5 * jobs.AGING)
        await submit(bench, job(2, priority=9))
        assert await drain(bench) == ["j1", "j2"]

    database.run(scenario)


def test_tenants_take_turns_however_many_one_has_submitted_and_however_urgent(database):
    async def scenario(bench: Bench) -> None:
        await submit(bench, *(job(number, "greedy", priority=9) for number in range(6)))
        await submit(bench, job("a1", "a"), job("a2", "a"), job("b1", "b"))
        order = await drain(bench)
        assert set(order[:3]) == {"j0", "ja1", "jb1"}
        assert set(order[3:5]) == {"j1", "ja2"}

    database.run(scenario)


def test_the_tenant_with_the_fewest_at_work_is_next(database):
    async def scenario(bench: Bench) -> None:
        await submit(bench, *(job(number, "greedy") for number in range(6)))
        assert [(await claim(bench)).job_id for _ in range(3)] == ["j0", "j1", "j2"]
        await submit(bench, job("a1", "a"), job("a2", "a"), job("a3", "a"))
        assert [(await claim(bench)).job_id for _ in range(3)] == ["ja1", "ja2", "ja3"]

    database.run(scenario)


def test_a_lease_that_is_renewed_is_kept_and_one_that_runs_out_is_taken_over_at_the_checkpoint(database):
    async def scenario(bench: Bench) -> None:
        await submit(bench, job())
        first = await claim(bench)
        await bench.store.jobs.begin_step("j1", 1, "one")
        await bench.store.jobs.finish_step("j1", 1, "one", {"found": 3}, 0.5)
        await pass_time(bench, LEASE - 1)
        await bench.store.jobs.renew("w1", LEASE)
        await pass_time(bench, LEASE - 1)
        assert await claim(bench, "w2") is None
        await pass_time(bench, 2)
        assert (await bench.store.jobs.waiting())[1]
        second = await claim(bench, "w2")
        assert (second.fence, second.recovered, second.recoveries, second.waited) == (first.fence + 1, True, 1, None)
        assert (second.finished, second.progress) == ({"one": {"found": 3}}, 0.5)
        assert await bench.store.jobs.standing("w1") == {}

    database.run(scenario)


def test_who_was_taken_for_lost_writes_nothing_more(database):
    async def scenario(bench: Bench) -> None:
        await submit(bench, job())
        old = (await claim(bench)).fence
        await bench.store.jobs.begin_step("j1", old, "one")
        await pass_time(bench, LEASE + 1)
        await claim(bench, "w2")
        before = await events(bench)
        ledger = bench.store.jobs
        for write in (
            ledger.begin_step("j1", old, "two"),
            ledger.finish_step("j1", old, "one", 1, 0.9),
            ledger.note_progress("j1", old, 0.9),
            ledger.end("j1", old, "completed"),
            ledger.give_back("j1", old),
        ):
            with pytest.raises(LeaseLost):
                await write
        assert await events(bench) == before
        assert (await ledger.find("acme", "j1")).progress == 0.0

    database.run(scenario)


def test_a_step_tried_again_counts_its_attempts_and_a_finished_one_is_recorded_once(database):
    async def scenario(bench: Bench) -> None:
        await submit(bench, job())
        ledger, fence = bench.store.jobs, (await claim(bench)).fence
        assert [await ledger.begin_step("j1", fence, "one") for _ in range(3)] == [1, 2, 3]
        for _ in range(2):  # the answer to the first write was lost
            await ledger.finish_step("j1", fence, "one", "done", 0.25)
        assert await events(bench) == ["job_queued", "job_started", *["step_started"] * 3, "step_completed"]
        (completed,) = await ledger.log("j1", 5, 10)
        assert completed.data == {"step": "one", "attempt": 3, "progress": 0.25}

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


def test_a_cancellation_outlives_the_worker_that_did_not_hear_it(database):
    async def scenario(bench: Bench) -> None:
        await submit(bench, job())
        await claim(bench)
        await bench.store.jobs.cancel("acme", "j1")
        await pass_time(bench, LEASE + 1)
        assert (await claim(bench, "w2")).cancelled

    database.run(scenario)


def test_what_is_given_back_is_claimed_again_and_is_no_recovery(database):
    async def scenario(bench: Bench) -> None:
        await submit(bench, job())
        claimed = await claim(bench)
        await bench.store.jobs.begin_step("j1", claimed.fence, "one")
        await bench.store.jobs.finish_step("j1", claimed.fence, "one", None, 0.5)
        await bench.store.jobs.give_back("j1", claimed.fence)
        again = await claim(bench, "w2")
        assert (again.fence, again.recoveries, again.recovered, again.waited) == (2, 0, False, None)
        assert again.finished == {"one": None}
        assert (await events(bench))[-2:] == ["job_queued", "job_started"]

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
