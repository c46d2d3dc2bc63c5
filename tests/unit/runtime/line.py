"""A gate for the tests, and requests that stand in line at it."""

import asyncio

from service.runtime.gate import Gate
from tests.simulation.deaf import Deaf


def gate(limit=1, *, queue=100, **options):
    return Gate("requests", limit, queue=queue, observer=Deaf(), **options)


async def settle():
    """Let every task run until it waits."""
    for _ in range(5):
        await asyncio.sleep(0)


class Line:
    """Requests at a gate: `order` notes who was granted a place, in that order."""

    def __init__(self, at):
        self.gate, self.order, self.tasks = at, [], {}

    async def join(self, *names):
        """Each name is a tenant's letter and a number: A1, A2, B1."""
        for name in names:
            self.tasks[name] = asyncio.create_task(self._wait(name))
            await settle()

    async def _wait(self, name):
        place = await self.gate.acquire(name[0])
        self.order.append(name)
        return place

    async def serve(self):
        """Release what is granted, one place after the other, until nobody is left."""
        while self.tasks:
            await settle()
            name = next(name for name, task in self.tasks.items() if task.done())
            task = self.tasks.pop(name)
            if task.exception() is None:
                task.result().release()
        return self.order
