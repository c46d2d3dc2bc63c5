"""What a job costs: jobs a second, CPU of each, and CPU while there is nothing to do.

    python -m tests.benchmarks.jobs [JOBS]

One worker of 16 places in one process, on a SQLite file and on a PostgreSQL of its own, and on Temporal's development
server beside a SQLite file; each job has two steps that do nothing, so that what is measured is claim, checkpoints,
events and end: seven transactions. The CPU of Temporal's server is told apart.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from pydantic import BaseModel

from service.jobs.crew import Crew
from service.jobs.embedded import Embedded
from service.jobs.engine import Engine
from service.jobs.kind import Kind, Step
from service.jobs.temporal.engine import Temporal
from service.jobs.temporal.target import Target
from service.ports import Principal
from service.runtime.gate import Gate
from service.runtime.world import real_world
from service.store import migrate, open_store
from service.work import Bounds, NewJob
from telemetry.catalogue import LabelSets
from telemetry.setup import Options, Telemetry
from tests.contract.cluster import running_cluster
from tests.contract.temporal_server import TemporalServer

JOBS = 2_000
PLACES = 16
IDLE = 10.0  # seconds


class Nothing(BaseModel):
    """The input of a job that does nothing."""


async def _pass(use, given):
    return given


ONE, TWO = Step("one", _pass, 10.0), Step("two", _pass, 10.0)


async def _flow(job, given):
    await job.step(ONE, 1, share=0.5)
    return await job.step(TWO, 2, share=0.5)


KINDS = {"empty": Kind("empty", Nothing, _flow, 3600.0, PLACES)}


async def measure(url: str, jobs: int, make: Callable[[Crew], Engine] = Embedded, name: str = "") -> str:
    """Return a line on the database at `url` and the engine."""
    labels = LabelSets(kinds=tuple(KINDS), resources=("jobs",))
    telemetry = Telemetry(Options(labels, {"service.name": "bench"}), stream=open("/dev/null", "w"))  # noqa: SIM115, PTH123, ASYNC230
    observer, world = telemetry.observer, real_world()
    await asyncio.to_thread(migrate, url)
    store = await open_store(url, world, observer)
    gate = Gate("jobs", PLACES, queue=0, observer=observer)
    worker = make(Crew(store.jobs, KINDS, None, gate, observer, world))
    who = Principal("t", "u", frozenset(), "k")
    wide = Bounds(10**6, 10**6)

    before, cpu = time.perf_counter(), time.process_time()
    await asyncio.gather(*(store.jobs.submit(NewJob(f"j{n}", who, "empty", "{}"), wide) for n in range(jobs)))
    queued, queued_cpu = time.perf_counter() - before, time.process_time() - cpu

    before, cpu = time.perf_counter(), time.process_time()
    worker.start()
    while await store.jobs.backlog():
        await asyncio.sleep(0.05)
    done, done_cpu = time.perf_counter() - before, time.process_time() - cpu

    cpu = time.process_time()
    await asyncio.sleep(IDLE)
    idle = (time.process_time() - cpu) / IDLE
    await worker.drain(1.0)
    await worker.stop()
    await store.close()
    await asyncio.to_thread(telemetry.close)
    return (
        f"{name or url.partition(':')[0]:<11} submit {jobs / queued:6.0f}/s {queued_cpu / jobs * 1e3:5.2f} ms   "
        f"work {jobs / done:6.0f}/s {done_cpu / jobs * 1e3:5.2f} ms   idle {idle:.2%} of a core"
    )


def main() -> None:
    """Print a line for each database."""
    jobs = int(sys.argv[1]) if len(sys.argv) > 1 else JOBS
    with tempfile.TemporaryDirectory() as folder:
        print(asyncio.run(measure(f"sqlite:///{Path(folder) / 'state.db'}", jobs)))  # noqa: T201
    with running_cluster() as cluster, cluster.empty_database() as url:
        print(asyncio.run(measure(url, jobs)))  # noqa: T201
    with tempfile.TemporaryDirectory() as folder, TemporalServer(Path(folder)) as server:
        url, make = f"sqlite:///{Path(folder) / 'state.db'}", partial(Temporal, target=Target(server.address))
        line, cpu = asyncio.run(measure(url, jobs, make, "temporal")), server.cpu_seconds()
        print(f"{line}   its server {cpu / jobs * 1e3:5.2f} ms a job")  # noqa: T201


if __name__ == "__main__":
    main()
