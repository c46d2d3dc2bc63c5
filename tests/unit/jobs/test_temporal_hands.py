"""What a worker tells Temporal while it works, beside a Temporal that does not answer."""

import asyncio
from types import SimpleNamespace

from temporalio.testing import ActivityEnvironment

from service.jobs.temporal import hands
from service.jobs.temporal.workflow import Ticket
from tests.virtual_loop import run


class Silent:
    """A client whose signals are never taken."""

    def get_workflow_handle(self, _job_id):
        return SimpleNamespace(signal=lambda _name: asyncio.sleep(3600))


def test_a_signal_that_is_never_taken_does_not_end_the_heartbeats():
    beats = []

    async def work():
        held = SimpleNamespace(run=SimpleNamespace(progress=0.5))
        async with hands._beating(Ticket("j1", "report", "demo", 60.0), held):
            await asyncio.sleep(hands.SIGNAL + 3 * hands.BEAT)

    async def scenario():
        environment = ActivityEnvironment(client=Silent())
        environment.on_heartbeat = lambda *details: beats.append(details)
        await environment.run(work)

    run(scenario())
    assert len(beats) >= 3
    assert beats[0] == (0.5,)
