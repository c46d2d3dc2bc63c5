"""Both engines of the jobs, each on a state database in a file, in real time: what their contract is tested over."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from service.jobs.crew import Crew
from service.jobs.desk import Desk
from service.jobs.embedded import Embedded
from service.jobs.kind import Kind, Step
from service.jobs.temporal.engine import Temporal
from service.jobs.temporal.target import Target
from service.ports import Principal
from service.runtime.gate import Gate
from service.runtime.world import real_world
from service.store import migrate
from service.store.sqlite import open_sqlite
from service.store.store import StateStore
from service.work import Bounds, NewJob
from telemetry.catalogue import LabelSets
from telemetry.testing import recording_observer
from tests.support import PATIENCE

ANN = Principal("acme", "ann", frozenset({"analyst"}), "k1")
WIDE = Bounds(10_000, 10_000)
TENANTS = ("acme", "rival")


class Anything(BaseModel):
    model_config = ConfigDict(extra="allow")


class Site:
    """A state database and the processes that work on its jobs. `did` notes each beginning of a step's work."""

    def __init__(self, store, observing, temporal):
        self.store, self.ledger, self.temporal = store, store.jobs, temporal
        self.observer, self.recorder = observing
        self.world = real_world()
        self.kinds, self.engines, self.did = {}, [], []
        self.desk = Desk(self.kinds, self.ledger, WIDE, self.observer, self._wake, self._call_off)

    def kind(self, flow, *, name="test", total=600.0, concurrency=100):
        self.kinds[name] = Kind(name, Anything, flow, total, concurrency)

    def step(self, name, work=None, *, budget=60.0, attempts=3):
        """A step whose work is `work(use, given)`, an async function; None does nothing."""

        async def noted(use, given):
            self.did.append(use.key)
            return await work(use, given) if work else given

        return Step(name, noted, budget, attempts)

    def stages(self, count, work=None, **limits):
        """Let the kind be so many steps one after another."""
        steps = [self.step(f"s{number}", work) for number in range(count)]

        async def flow(job, given):
            return [await job.step(step, number, share=1 / count) for number, step in enumerate(steps)]

        self.kind(flow, **limits)

    def engine(self, places=4):
        """Another process, as far as jobs go."""
        gate = Gate("jobs", places, queue=len(self.kinds), observer=self.observer)
        crew = Crew(self.ledger, self.kinds, None, gate, self.observer, self.world)
        engine = Embedded(crew) if self.temporal is None else Temporal(crew, Target(self.temporal.address))
        engine.start()
        self.engines.append(engine)
        return engine

    async def submit(self, job_id=None, tenant="acme", **more):
        """Ask for a job; return its id, which no other test has used."""
        new = NewJob(
            job_id or self.world.new_id("job"), replace(ANN, tenant=tenant), **({"kind": "test", "input": "{}"} | more)
        )
        return (await self.desk.submit(new)).job.job_id

    async def job(self, job_id, tenant="acme"):
        return await self.ledger.find(tenant, job_id)

    async def events(self, job_id):
        """The types of a job's events, checked to be without a gap, with the step of those that have one."""
        found = await self.ledger.log(job_id, 0, 10_000)
        assert [event.number for event in found] == list(range(1, len(found) + 1))
        return [event.type if "step" not in event.data else (event.type, event.data["step"]) for event in found]

    async def until(self, condition):
        """Wait until `condition()`, a coroutine function or a function, is true."""
        async with asyncio.timeout(PATIENCE):
            while not (await condition() if asyncio.iscoroutinefunction(condition) else condition()):
                await asyncio.sleep(0.01)

    async def until_ended(self, *job_ids, tenant="acme"):
        async def ended():
            return all([(await self.job(one, tenant)).ended_at is not None for one in job_ids])

        await self.until(ended)

    async def until_begun(self, count=1):
        await self.until(lambda: len(self.did) >= count)

    def _wake(self):
        for engine in self.engines:
            engine.nudge()

    def _call_off(self, job_id):
        for engine in self.engines:
            engine.call_off(job_id)

    async def close(self):
        for engine in self.engines:
            await engine.drain(0.0)
            await engine.stop()


@asynccontextmanager
async def _open_site(folder: Path, observing, temporal):
    driver = await open_sqlite(folder / "state.db")
    site = Site(StateStore(driver, real_world(), observing[0]), observing, temporal)
    try:
        yield site
    finally:
        await site.close()
        await driver.close()


def play(folder, scenario, temporal=None):
    """Run `scenario(site)` on a new database; `temporal` is the server, None for the embedded engine."""
    migrate(f"sqlite:///{folder / 'state.db'}")
    observing = recording_observer(LabelSets(kinds=("test", "other"), resources=("jobs",), tenants=TENANTS))

    async def main():
        async with _open_site(folder, observing, temporal) as site:
            await scenario(site)

    asyncio.run(main())
