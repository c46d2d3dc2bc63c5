"""Leases on a real Redis: shared by need, never granted twice, back after a crash; and life without Redis."""

import asyncio
import contextlib
import sys

import pytest

from service.runtime.gate import Gate
from service.runtime.leases import Leases
from service.runtime.outage import Outage
from service.runtime.redis_client import connect
from telemetry.catalogue import (
    CONCURRENCY_LIMIT,
    DEGRADATIONS_TOTAL,
    DEPENDENCY_GONE,
    LOG_DEGRADED,
    LOG_RECOVERED,
)
from telemetry.testing import recording_observer
from tests.contract.redis_server import SOON, RedisServer, until, until_answering

LEASE = 1.8  # seconds: short, so that a test can wait for its end, and no machine stands still for so long


@pytest.fixture
def server(tmp_path):
    running = RedisServer(tmp_path)
    running.observers = [recording_observer() for _ in range(3)]  # made outside the loop: that reads files
    running.start()
    yield running
    running.kill()


class Process:
    """One process as the leases see it: a gate, a task that looks after its limit, requests."""

    def __init__(self, server, name, limit, processes, tenant_limit=None):
        self.observer, self.recorder = server.observers.pop()
        self.gate = Gate("requests", limit, queue=1000, tenant_limit=tenant_limit, observer=self.observer)
        self.leases = Leases(
            connect(server.url),
            {self.gate: limit},
            process=name,
            processes=processes,
            outage=Outage("limits", self.observer),
            lease=LEASE,
        )
        self.requests = []

    def ask(self, number, tenant="demo"):
        self.requests += [asyncio.create_task(self._request(tenant)) for _ in range(number)]

    async def _request(self, tenant):
        with await self.gate.acquire(tenant):
            await asyncio.Event().wait()

    async def end_requests(self):
        for task in self.requests:
            task.cancel()
        await asyncio.gather(*self.requests, return_exceptions=True)
        self.requests = []


@contextlib.asynccontextmanager
async def process(server, name, *, limit, processes=2, tenant_limit=None):
    one = Process(server, name, limit, processes, tenant_limit)
    await until_answering(server)
    await one.leases.round()
    task = asyncio.create_task(one.leases.run())
    try:
        yield one
    finally:
        await one.end_requests()
        task.cancel()
        await asyncio.wait([task])
        await one.leases.close()
    assert task.cancelled()


def in_use(*processes):
    return sum(one.gate.in_use for one in processes)


def limits(*processes):
    return [int(one.recorder.value(CONCURRENCY_LIMIT, "requests")) for one in processes]


def test_an_idle_process_holds_a_few_places_so_that_a_newcomer_does_not_wait(server):
    async def scene():
        async with process(server, "a", limit=40) as a, process(server, "b", limit=40) as b:
            await until(lambda: limits(a, b) == [5, 5])
            with a.gate.try_acquire("demo"), b.gate.try_acquire("demo"):
                pass

    asyncio.run(scene())


def test_one_process_may_use_nearly_all_of_the_limit_while_the_others_are_idle(server):
    async def scene():
        async with process(server, "a", limit=40) as a, process(server, "b", limit=40) as b:
            a.ask(100)
            await until(lambda: in_use(a) == 35 and limits(a, b) == [35, 5])

    asyncio.run(scene())


def test_two_processes_in_need_come_to_equal_shares_and_never_to_more_than_the_limit(server):
    async def scene():
        async with process(server, "a", limit=20) as a, process(server, "b", limit=20) as b:
            a.ask(500)
            await until(lambda: in_use(a) >= 17)
            b.ask(500)

            def even_after_one_more_request_of_a_has_ended():
                a.requests.pop(0).cancel()  # the oldest, which has a place, if any has
                assert in_use(a, b) <= 20
                return limits(a, b) == [10, 10] and in_use(a) == in_use(b) == 10

            await until(even_after_one_more_request_of_a_has_ended)

    asyncio.run(scene())


def test_a_tenants_limit_holds_over_all_processes_and_goes_where_its_requests_go(server):
    async def scene():
        async with (
            process(server, "a", limit=40, tenant_limit=10) as a,
            process(server, "b", limit=40, tenant_limit=10) as b,
        ):
            await until(lambda: limits(a, b) == [5, 5] and a.gate.tenant_limit == b.gate.tenant_limit == 2)
            a.ask(100)
            await until(lambda: in_use(a) >= 9)
            assert in_use(a) <= 10

    asyncio.run(scene())


def test_what_a_process_gives_back_at_its_end_the_others_have_at_once(server):
    async def scene():
        async with process(server, "b", limit=10) as b:
            async with process(server, "a", limit=10) as a:
                a.ask(20)
                await until(lambda: in_use(a) == 9)
                b.ask(20)
            await until(lambda: in_use(b) == 10)

    asyncio.run(scene())


HOLDER = """
import asyncio, sys
from service.runtime.gate import Gate
from service.runtime.leases import Leases
from service.runtime.outage import Outage
from service.runtime.redis_client import connect
from telemetry.testing import recording_observer

observer, _ = recording_observer()

async def main():
    gate = Gate("requests", 10, queue=100, observer=observer)
    outage = Outage("limits", observer)
    leases = Leases(connect(sys.argv[1]), {gate: 10}, process="holder", processes=2, outage=outage, lease=1.8)
    await leases.round()
    tasks = [asyncio.create_task(leases.run()), *(asyncio.create_task(gate.acquire("demo")) for _ in range(20))]
    while gate.in_use < 9:
        await asyncio.sleep(0.01)
    print("holding", flush=True)
    await asyncio.wait(tasks)

asyncio.run(main())
"""


def test_the_places_of_a_process_that_is_killed_come_back_when_its_lease_runs_out(server):
    async def scene():
        async with process(server, "a", limit=10) as a:
            child = await asyncio.create_subprocess_exec(
                sys.executable, "-c", HOLDER, server.url, stdout=asyncio.subprocess.PIPE
            )
            assert await asyncio.wait_for(child.stdout.readline(), SOON) == b"holding\n"
            a.ask(20)
            await asyncio.sleep(2 * LEASE)  # the holder lives, and renews
            assert in_use(a) <= 1
            child.kill()
            await child.wait()
            await until(lambda: in_use(a) == 10)

    asyncio.run(scene())


@pytest.mark.parametrize("fault", ["killed", "stopped"])
def test_without_redis_each_process_has_an_equal_part_says_so_once_and_recovers(server, fault):
    async def scene():
        async with process(server, "a", limit=10) as a, process(server, "b", limit=10) as b:
            a.ask(20)
            await until(lambda: in_use(a) == 9)
            server.kill() if fault == "killed" else server.stop()
            await until(lambda: a.leases.degraded and b.leases.degraded)
            assert limits(a, b) == [5, 5]
            b.ask(20)
            for _ in range(10):
                await asyncio.sleep(0)
            assert in_use(b) == 5, "nobody waited for Redis: there was no time for it"
            await until(lambda: a.recorder.value(DEGRADATIONS_TOTAL, "limits") == 1)
            assert a.recorder.value(DEPENDENCY_GONE, "limits") == 1
            await b.end_requests()

            server.start() if fault == "killed" else server.go_on()
            await until(lambda: not a.leases.degraded and not b.leases.degraded)
            await until(lambda: limits(a)[0] == 9)
            for one in (a, b):
                assert one.recorder.value(DEGRADATIONS_TOTAL, "limits") == 1
                assert one.recorder.value(DEPENDENCY_GONE, "limits") == 0
                assert [line["dependency"] for line in one.recorder.logged(LOG_DEGRADED)] == ["limits"]
                assert len(one.recorder.logged(LOG_RECOVERED)) == 1

    asyncio.run(scene())


def test_a_redis_that_has_lost_everything_is_told_anew_and_nothing_is_granted_twice(server):
    async def scene():
        async with process(server, "a", limit=10) as a, process(server, "b", limit=10) as b:
            a.ask(5)
            b.ask(5)
            await until(lambda: in_use(a, b) == 10)
            server.kill()
            await until(lambda: a.leases.degraded and b.leases.degraded)
            server.start()
            a.ask(20)
            b.ask(20)
            await until(lambda: not a.leases.degraded and not b.leases.degraded)
            for _ in range(50):
                assert in_use(a, b) == 10
                await asyncio.sleep(0.01)

    asyncio.run(scene())


def test_a_process_that_stood_still_for_longer_than_its_lease_begins_again_with_nothing(server):
    async def scene():
        b = Process(server, "b", 10, 2)
        await until_answering(server)
        await b.leases.round()
        await asyncio.sleep(1.2 * LEASE)  # no round meanwhile
        async with process(server, "a", limit=10) as a:
            a.ask(20)
            await until(lambda: in_use(a) == 10)
            await b.leases.round()
            assert b.gate.try_acquire("demo") is None
        await b.leases.close()

    asyncio.run(scene())
