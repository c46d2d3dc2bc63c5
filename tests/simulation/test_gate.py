"""A gate in hundreds of random runs: no place is lost, no wake-up either, nobody starves, whoever is cancelled when."""

import asyncio
import random
import statistics

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from service.errors import Overloaded
from service.runtime.gate import Gate
from tests.simulation.deaf import Deaf
from tests.support import proof_count
from tests.virtual_loop import VirtualLoop, run

TENANTS = "ABCDE"


def check(gate, held, tenant_limit, queue, *, most):
    """What must hold whenever every task has run until it waits."""
    now = gate.statistics()
    assert now.in_use == sum(held.values()) <= most
    assert now.waiting == sum(use.waiting for use in now.tenants.values()) <= queue
    for tenant, use in now.tenants.items():
        assert use.in_use == held.get(tenant, 0) <= tenant_limit
        may_go = now.in_use < now.limit and use.in_use < tenant_limit
        assert not (use.waiting and may_go), f"{tenant} waits while a place is free"


async def storm(seed, *, cancelled):
    """Send hundreds of requests of five tenants through one gate, cancel some, change the limit on the way."""
    draw = random.Random(seed)
    tenant_limit, queue = draw.randrange(1, 8), draw.choice([5, 40, 500])
    weights = {tenant: draw.choice([1, 1, 2, 3.5]) for tenant in TENANTS}
    gate = Gate("requests", 8, queue=queue, tenant_limit=tenant_limit, weights=weights, observer=Deaf())
    held = dict.fromkeys(TENANTS, 0)
    most = 8  # places that may be in use: the limit, or what was granted before it shrank

    async def request(tenant):
        with await gate.acquire(tenant, asyncio.current_task()):
            held[tenant] += 1
            try:
                assert sum(held.values()) <= most
                await asyncio.sleep(draw.expovariate(2))
            finally:
                held[tenant] -= 1

    async def watch():
        while True:
            await asyncio.sleep(draw.random() / 5)  # wakes at a moment of its own, when all others wait
            check(gate, held, tenant_limit, queue, most=most)

    watcher = asyncio.create_task(watch())
    tasks = []
    for _ in range(300):
        tasks.append(asyncio.create_task(request(draw.choice(TENANTS))))
        if draw.random() < cancelled:
            asyncio.get_running_loop().call_later(draw.expovariate(1), tasks[-1].cancel)
        if draw.random() < 0.05:
            limit = draw.randrange(1, 12)
            most = max(limit, gate.statistics().in_use)
            gate.set_limit(limit)
        if draw.random() < 0.5:
            await asyncio.sleep(draw.expovariate(20))
        assert gate.audit() == 0
    _, forgotten = await asyncio.wait(tasks, timeout=1000)
    assert not forgotten
    assert watcher.cancel(), watcher.result()
    unexpected = [
        task for task in tasks if not task.cancelled() and not isinstance(task.exception(), Overloaded | None)
    ]
    assert not unexpected
    assert gate.statistics() == type(gate.statistics())(0, gate.statistics().limit, 0, {})


@pytest.mark.parametrize("seed", range(proof_count(200, 5000)))
def test_no_place_is_lost_and_the_limit_is_kept_while_two_of_five_requests_are_cancelled(seed):
    run(storm(seed, cancelled=0.4), seed=seed)


# --- fairness -----------------------------------------------------------------------------------------------------


async def crowd(gate, *, backlog, service, draw):
    """Let tenant A send `backlog` requests at once and B one a second; return B's waits and when A was done."""
    loop = asyncio.get_running_loop()
    waits = []

    async def request(tenant, length):
        asked = loop.time()
        with await gate.acquire(tenant):
            if tenant == "B":
                waits.append(loop.time() - asked)
            await asyncio.sleep(length)
        return loop.time()

    crowd = [asyncio.create_task(request("A", service(draw))) for _ in range(backlog)]
    for _ in range(30):
        await asyncio.sleep(1)
        await request("B", service(draw))
    return waits, max([await task for task in crowd])


def test_one_turn_beside_a_thousand_waits_for_no_more_than_one_place_to_come_free():
    """Alone B would not wait at all; beside A's thousand it waits at most for one service time, on 1 place or on 20."""
    for places in (1, 2, 20):
        gate = Gate("requests", places, queue=1000, observer=Deaf())
        waits, _ = run(crowd(gate, backlog=1000, service=lambda draw: 1.0, draw=random.Random(1)), seed=places)
        assert max(waits) <= 1.0 + 1e-9


@pytest.mark.parametrize("seed", range(10))
def test_a_tenant_with_one_request_a_second_hardly_notices_one_with_a_thousand(seed):
    gate = Gate("requests", 20, queue=1000, observer=Deaf())
    draw = random.Random(seed)
    waits, done = run(crowd(gate, backlog=1000, service=lambda draw: draw.expovariate(1), draw=draw), seed=seed)
    assert statistics.median(waits) < 0.15  # 20 places come free 20 times a second
    assert max(waits) < 1
    assert done < 1.2 * 1030 / 20 + 5  # and nobody pays for it: the places are always in use


async def shares(gate, tenants, *, seconds):
    """Keep a backlog of every tenant; return how many places each was granted."""
    granted = dict.fromkeys(tenants, 0)
    draw = random.Random(0)

    async def customer(tenant):
        while True:
            with await gate.acquire(tenant):
                granted[tenant] += 1
                await asyncio.sleep(draw.expovariate(10))

    tasks = [asyncio.create_task(customer(tenant)) for tenant in tenants for _ in range(20)]
    await asyncio.sleep(seconds)
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)
    return granted


def test_under_load_the_places_are_shared_by_weight():
    gate = Gate("requests", 4, queue=1000, weights={"A": 1, "B": 2, "C": 5}, observer=Deaf())
    granted = run(shares(gate, "ABC", seconds=100))
    total = sum(granted.values())
    assert total > 3800
    for tenant, weight in (("A", 1), ("B", 2), ("C", 5)):
        assert granted[tenant] / total == pytest.approx(weight / 8, abs=0.01)


@pytest.mark.parametrize(("weight", "evenness"), [(1, 0.95), (5, 0.65)])
def test_tenants_at_their_own_limits_share_the_places_evenly(weight, evenness):
    """One place each at most: a turn of five places is of little use to A, and coming back from its limit of none."""
    gate = Gate("requests", 2, queue=1000, tenant_limit=1, weights={"A": weight}, observer=Deaf())
    granted = run(shares(gate, "ABCDE", seconds=100))
    assert sum(granted.values()) > 1800
    assert min(granted.values()) > evenness * max(granted.values())


@pytest.mark.parametrize("weight", [1, 2])
def test_nobody_starves_behind_tenants_that_always_come_back_with_one_request(weight):
    """Each of them is a newcomer whenever it comes; with more of them than places A would never be served."""

    async def scene():
        served = dict.fromkeys(range(10), 0)
        weights = {str(tenant): weight for tenant in served}
        gate = Gate("requests", 1, queue=1000, weights=weights, observer=Deaf())

        async def regular(tenant):
            while True:
                with await gate.acquire(str(tenant)):
                    served[tenant] += 1
                    await asyncio.sleep(1)

        async def one_of_many():
            with await gate.acquire("A"):
                await asyncio.sleep(1)

        regulars = [asyncio.create_task(regular(tenant)) for tenant in served]
        await asyncio.sleep(0.5)
        async with asyncio.timeout((10 * weight + 1) * 21):  # eleven tenants take turns
            await asyncio.gather(*(one_of_many() for _ in range(20)))
        assert max(served.values()) - min(served.values()) <= weight
        for task in regulars:
            task.cancel()
        await asyncio.wait(regulars)

    run(scene())


def test_strangers_who_come_and_go_cannot_keep_out_one_who_waits():
    """Every request of a new tenant goes first once; A's turn still comes, because the strangers are finite."""

    async def scene():
        gate = Gate("requests", 2, queue=1000, observer=Deaf())
        loop = asyncio.get_running_loop()

        async def request(tenant):
            with await gate.acquire(tenant):
                await asyncio.sleep(1)
            return loop.time()

        tasks = [asyncio.create_task(request("A")) for _ in range(20)]
        strangers = []
        for number in range(600):  # three times what two places can serve, of 40 tenants
            strangers.append(asyncio.create_task(request(f"stranger {number % 40}")))
            await asyncio.sleep(1 / 6)
        done = [await task for task in tasks]
        await asyncio.wait(strangers)
        assert sorted(done)[2] < 25
        assert max(done) < 20 * 41 / 2

    run(scene())


# --- any order of events ------------------------------------------------------------------------------------------


class AnyOrder(RuleBasedStateMachine):
    """Arrivals, releases, cancellations and new limits, in whatever order hypothesis thinks of."""

    TENANT_LIMIT, QUEUE, TENANT_QUEUE = 2, 6, 4

    def __init__(self):
        super().__init__()
        self.loop = VirtualLoop(seed=0)
        self.gate = Gate(
            "requests",
            3,
            queue=self.QUEUE,
            tenant_limit=self.TENANT_LIMIT,
            tenant_queue=self.TENANT_QUEUE,
            weights={"A": 2},
            observer=Deaf(),
        )
        self.waiting, self.places, self.most = [], [], 3

    def teardown(self):
        for task, _ in self.waiting:
            task.cancel()
        self.settle(*(place.release for place, _ in self.places))
        self.loop.close()

    def settle(self, *calls):
        async def steps():
            for call in calls:
                call()
            for _ in range(6):
                await asyncio.sleep(0)

        self.loop.run_until_complete(steps())
        for task, tenant in [*self.waiting]:
            if task.done():
                self.waiting.remove((task, tenant))
                if not task.cancelled() and task.exception() is None:
                    self.places.append((task.result(), tenant))

    def arrive(self, tenant):
        self.waiting.append((self.loop.create_task(self.gate.acquire(tenant)), tenant))

    @rule(tenants=st.lists(st.sampled_from("ABC"), min_size=1, max_size=6))
    def requests_arrive(self, tenants):
        self.settle(*(lambda tenant=tenant: self.arrive(tenant) for tenant in tenants))

    @precondition(lambda self: self.places)
    @rule(pick=st.integers(0, 99))
    def a_place_is_released(self, pick):
        place, _ = self.places.pop(pick % len(self.places))
        self.settle(place.release)

    @precondition(lambda self: self.waiting)
    @rule(pick=st.integers(0, 99))
    def a_waiter_is_cancelled(self, pick):
        self.settle(self.waiting[pick % len(self.waiting)][0].cancel)

    @precondition(lambda self: self.places and self.waiting)
    @rule(pick=st.integers(0, 99), first=st.booleans())
    def a_place_is_released_while_a_waiter_is_cancelled(self, pick, first):
        place, _ = self.places.pop(pick % len(self.places))
        cancel = self.waiting[pick % len(self.waiting)][0].cancel
        self.settle(*((place.release, cancel) if first else (cancel, place.release)))

    @rule(limit=st.integers(0, 6))
    def the_limit_changes(self, limit):
        self.settle(lambda: self.gate.set_limit(limit))

    @invariant()
    def it_is_as_it_should_be(self):
        held = {tenant: sum(mine == tenant for _, mine in self.places) for tenant in "ABC"}
        self.most = max(self.gate.statistics().limit, min(self.most, sum(held.values())))
        check(self.gate, held, self.TENANT_LIMIT, self.QUEUE, most=self.most)
        now = self.gate.statistics()
        assert now.waiting == len(self.waiting)
        assert all(use.waiting <= self.TENANT_QUEUE for use in now.tenants.values())


TestAnyOrder = AnyOrder.TestCase
TestAnyOrder.settings = settings(max_examples=150, stateful_step_count=40, deadline=None, derandomize=True)
