"""Records what Temporal keeps of a job's workflow, for each way that it can go.

`python -m tests.contract.record_histories`: to be run, under other names for the new files, whenever the workflow
begins to do something else. The earlier files stay: workflows of that version may be open when the next one starts.
"""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path

from temporalio.client import Client

from tests.contract.engines import play
from tests.contract.temporal_server import TemporalServer

FOLDER = Path(__file__).with_name("histories")


async def record(site):
    """Let five jobs go their ways, and write down their histories."""
    door = asyncio.Event()

    async def wait(use, given):
        await door.wait()

    async def bad(use, given):
        raise ValueError

    client = await Client.connect(site.temporal.address)
    site.stages(1, wait)
    site.stages(1, bad, name="other")
    first = site.engine(places=2)
    ways = {"completed": await site.submit(), "cancelled": await site.submit()}
    await site.until_begun(2)
    ways["cancelled_waiting"] = await site.submit()
    await asyncio.sleep(2)
    await client.get_workflow_handle(ways["cancelled_waiting"]).cancel()
    await client.get_workflow_handle(ways["cancelled"]).cancel()
    await site.until_ended(ways["cancelled"], ways["cancelled_waiting"])
    ways["given_back"] = await site.submit()
    await site.until_begun(3)
    await first.drain(0.0)
    door.set()
    site.engine()
    ways["failed"] = await site.submit(kind="other")
    await site.until_ended(*ways.values())
    await asyncio.sleep(3)  # and their workflows
    for name, job_id in ways.items():
        history = await client.get_workflow_handle(job_id).fetch_history()
        (FOLDER / f"{name}.json").write_text(history.to_json(), encoding="utf-8")


def main():
    """Write the files."""
    FOLDER.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as folder, TemporalServer(Path(folder)) as server:
        play(Path(folder), record, server)


if __name__ == "__main__":
    main()
