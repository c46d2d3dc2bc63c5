"""What tests see of a job at Temporal: its workflow, and a step that is under way for as long as they want."""

import asyncio

from temporalio.client import Client
from temporalio.service import RPCError


class Door:
    """A step that waits until a test opens it."""

    def __init__(self):
        self._open = asyncio.Event()

    async def __call__(self, use, given):
        await self._open.wait()
        return given

    def open(self):
        self._open.set()


async def workflow_of(site, job_id):
    return (await Client.connect(site.temporal.address)).get_workflow_handle(job_id)


async def until_status(site, job_id, status):
    await until_handed_over(site, job_id)
    handle = await workflow_of(site, job_id)

    async def reached():
        return (await handle.describe()).status == status

    await site.until(reached)


async def until_handed_over(site, job_id):
    """Wait until a job's workflow has been started."""
    handle = await workflow_of(site, job_id)

    async def there():
        try:
            return await handle.describe()
        except RPCError:
            return None

    await site.until(there)
