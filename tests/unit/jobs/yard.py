"""Workers in virtual time, on a real ledger in memory: kinds that do as a test wants, crashes that leave no word."""

from __future__ import annotations

import asyncio
from dataclasses import replace

from pydantic import BaseModel, ConfigDict

from service.jobs.crew import Crew
from service.jobs.embedded import Embedded
from service.jobs.kind import Kind, Step
from service.ports import Principal
from service.runtime.gate import Gate
from service.store.inline import Conditions, InlineDriver
from service.store.store import StateStore
from service.work import Bounds, NewJob
from telemetry import catalogue as rows
from telemetry.catalogue import LabelSets
from telemetry.testing import recording_observer
from tests.virtual_loop import run, virtual_world

ANN = Principal("acme", "ann", frozenset({"analyst"}), "k1")
WIDE = Bounds(10_000, 10_000)


class Anything(BaseModel):
    model_config = ConfigDict(extra="allow")


class Yard:
    """A state database, and workers on it. `did` notes each beginning of a step's work: (job, step)."""

    def __init__(self, seed=0):
        self.world = virtual_world(seed)
        self.observer, self.recorder = recording_observer(
            LabelSets(kinds=("test", "other"), resources=("jobs",), tenants=("acme", "rival"))
        )
        self.conditions = Conditions()
        self.driver = InlineDriver(self.world.random, self.conditions)
        self.store = StateStore(self.driver, self.world, self.observer)
        self.ledger = self.store.jobs
        self.kinds = {}
        self.workers = []
        self.did = []

    def kind(self, flow, *, name="test", total=600.0, concurrency=100):
        self.kinds[name] = Kind(name, Anything, flow, total, concurrency)

    def step(self, name, work, *, budget=60.0, attempts=3):
        """A step whose work is `work(use, given)`, an async function; None does nothing."""

        async def noted(use, given):
            self.did.append(use.key)
            return await work(use, given) if work else given

        return Step(name, noted, budget, attempts)

    def stages(self, count, seconds, **limits):
        """Let the kind be so many steps one after another, each of so many seconds."""

        async def wait(use, given):
            await asyncio.sleep(seconds)
            return given

        steps = [self.step(f"s{number}", wait, budget=2 * seconds + 60) for number in range(count)]

        async def flow(job, given):
            return [await job.step(step, number, share=1 / count) for number, step in enumerate(steps)]

        self.kind(flow, **limits)

    def worker(self, places=4, **more):
        gate = Gate("jobs", places, queue=0, observer=self.observer)
        worker = Embedded(Crew(self.ledger, self.kinds, None, gate, self.observer, self.world, **more))
        worker.start()
        self.workers.append(worker)
        return worker

    async def submit(self, job_id="j1", tenant="acme", **more):
        new = NewJob(job_id, replace(ANN, tenant=tenant), **({"kind": "test", "input": "{}"} | more))
        return await self.ledger.submit(new, WIDE)

    async def crash(self, worker):
        """End a worker as SIGKILL does: from one moment to the next it writes nothing more."""
        worker.crew.store = Gone()
        for held in worker.crew.held:
            held.run._store = Gone()
        await worker.stop()
        self.workers.remove(worker)

    async def job(self, job_id="j1", tenant="acme"):
        return await self.ledger.find(tenant, job_id)

    async def events(self, job_id="j1"):
        """The types of a job's events, checked to be without a gap, with the step of those that have one."""
        found = await self.ledger.log(job_id, 0, 10_000)
        assert [event.number for event in found] == list(range(1, len(found) + 1))
        return [event.type if "step" not in event.data else (event.type, event.data["step"]) for event in found]

    async def until(self, condition, *, step=0.05, within=600.0):
        async with asyncio.timeout(within):
            while not await condition() if asyncio.iscoroutinefunction(condition) else not condition():
                await asyncio.sleep(step)

    async def until_ended(self, *job_ids):
        async def ended():
            return all([(await self.job(one)).ended_at is not None for one in job_ids])

        await self.until(ended)

    async def close(self):
        for worker in self.workers:
            await worker.drain(0.0)
            await worker.stop()
        await self.store.close()

    def assert_at_rest(self):
        for gauge in (rows.JOBS_RUNNING, rows.CONCURRENCY_IN_USE):
            assert self.recorder.value(gauge) == 0, gauge.name
        self.recorder.assert_no_open_span()


class Gone:
    """A database that a dead process does not reach: nothing ever comes back."""

    def __getattr__(self, name):
        async def never(*_, **__):
            await asyncio.get_running_loop().create_future()

        return never


def in_yard(scenario, *, seed=0):
    """Run `scenario(yard)` in virtual time; afterwards nothing may be left."""
    yard = Yard(seed)

    async def live():
        try:
            return await scenario(yard)
        finally:
            await yard.close()

    result = run(live(), seed=seed)
    yard.assert_at_rest()
    return result
