"""Jobs asked for at /jobs or by a turn in the background, and how they end."""

import asyncio
import json

from service.api.jobs import JobDoor
from service.chat.submission import submit
from service.work import LAST_EVENTS

JOBS = "/jobs"
KEY = {"idempotency-key": "once"}


async def ask(house, body, **more):
    """Send `body` to /jobs."""
    client = house.client(body=body, **more)
    await house.connect(client, JobDoor, submit)
    return client


async def ended(house, job_id, tenant="demo"):
    """Wait until a job has ended; return it with its result."""

    async with asyncio.timeout(900):
        while (job := await house.workforce.desk.find(tenant, job_id)).ended_at is None:
            await asyncio.sleep(0.1)
    return job, json.loads(job.result or "null")


async def events(house, job_id):
    found = await house.workforce.desk.log(job_id, 0, 1000)
    assert [event.number for event in found] == list(range(1, len(found) + 1))
    assert [event.type in LAST_EVENTS for event in found] == [False] * (len(found) - 1) + [True]
    return [event.type for event in found]


def job_id_of(client):
    assert client.status == 202, client.raw
    job = json.loads(client.raw)
    assert client.answer_headers["location"] == f"/jobs/{job['job_id']}"
    return job["job_id"]


async def in_background(house, message="What is case C-1042 about?", **more):
    return await house.chat(message, ask={"background": True}, **more)
