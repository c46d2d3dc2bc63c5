"""Jobs for the ledger of a state database, and a worker's hands on them."""

from dataclasses import replace

from service.ports import Principal
from service.work import Bounds, NewJob
from tests.contract.stores import Bench

WIDE = Bounds(1000, 1000)
KINDS = ("slow", "quick")
LEASE = 10.0
ANN = Principal("acme", "ann", frozenset({"analyst", "approver"}), "k1")


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
