"""What every state database must hold of claims: whose job is next, and that nobody else gets it."""

import asyncio

from service.store import jobs
from tests.contract.ledger import ANN, LEASE, claim, drain, job, pass_time, submit
from tests.contract.stores import Bench


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
