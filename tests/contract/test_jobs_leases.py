"""What every state database must hold of a job at work: leases, fences, checkpoints, and a log without a gap."""

import pytest

from service.work import LeaseLost
from tests.contract.ledger import LEASE, claim, events, job, pass_time, submit
from tests.contract.stores import Bench


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
