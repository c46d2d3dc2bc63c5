"""The adaptive limit against simulated providers: one that queues, one that refuses, one that fails for a while."""

import asyncio
import random
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest

from service.runtime.adaptive import Fixed, Gradient2
from service.runtime.gate import Gate
from tests.simulation.deaf import Deaf
from tests.virtual_loop import run


@dataclass
class Provider:
    """Answers within `first_token` seconds up to `knee` streams at once, above it in proportion more slowly."""

    knee: float
    refuses_above: float = float("inf")
    down: bool = False
    first_token: float = 0.5
    noise: float = 0.3  # standard deviation of the logarithm
    draw: random.Random = field(default_factory=lambda: random.Random(1))
    busy: int = 0

    async def first(self):
        """Return seconds until the first token, None if refused."""
        if self.down or self.busy >= self.refuses_above:
            await asyncio.sleep(0.05)
            return None
        seconds = self.first_token * max(1.0, self.busy / self.knee) * self.draw.lognormvariate(0, self.noise)
        await asyncio.sleep(seconds)
        return seconds


async def customer(gate, provider):
    while True:
        with await gate.acquire("A") as place:
            provider.busy += 1
            try:
                seconds = await provider.first()
                place.report(sample=seconds, dropped=seconds is None)
                if seconds is not None:
                    await asyncio.sleep(provider.draw.expovariate(1 / 5))  # the stream's length says nothing
            finally:
                provider.busy -= 1
        if seconds is None:
            await asyncio.sleep(0.5)


@asynccontextmanager
async def load(gate, provider, customers):
    tasks = []
    for _ in range(customers):
        tasks.append(asyncio.create_task(customer(gate, provider)))
        await asyncio.sleep(0.05)
    yield
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)
    assert gate.statistics().in_use == 0


async def watch(limit, seconds):
    """Return the limit, once a second."""
    seen = []
    for _ in range(seconds):
        await asyncio.sleep(1)
        seen.append(limit.value)
    return seen


@pytest.mark.parametrize("seed", range(3))
def test_it_climbs_to_the_knee_of_a_provider_that_queues_and_stays_there(seed):
    async def main():
        limit, provider = Gradient2(10, ceiling=200), Provider(knee=40, draw=random.Random(seed))
        async with load(Gate("m", limit, queue=1000, observer=Deaf()), provider, 90):
            await watch(limit, 200)
            seen = await watch(limit, 600)
        assert min(seen) > 35
        assert max(seen) < 60

    run(main(), seed=seed)


def test_it_does_not_hold_down_a_provider_that_has_room():
    async def main():
        limit, provider = Gradient2(10, ceiling=80), Provider(knee=1000)
        async with load(Gate("m", limit, queue=1000, observer=Deaf()), provider, 90):
            await watch(limit, 300)
            seen = await watch(limit, 300)
        assert min(seen) > 65

    run(main())


def test_it_stays_below_what_the_provider_refuses():
    async def main():
        limit, provider = Gradient2(60, ceiling=200), Provider(knee=1000, refuses_above=30)
        async with load(Gate("m", limit, queue=1000, observer=Deaf()), provider, 90):
            await watch(limit, 60)
            seen = await watch(limit, 300)
        assert min(seen) >= 20
        assert max(seen) <= 31

    run(main())


def test_it_falls_to_its_floor_in_an_outage_and_recovers_after_it():
    async def main():
        limit, provider = Gradient2(40), Provider(knee=1000)
        async with load(Gate("m", limit, queue=1000, observer=Deaf()), provider, 60):
            assert min(await watch(limit, 60)) > 30
            provider.down = True
            assert (await watch(limit, 30))[-1] == 10
            provider.down = False
            assert (await watch(limit, 180))[-1] > 30

    run(main())


def test_when_the_provider_slows_down_it_backs_off_and_when_it_is_fast_again_it_comes_back():
    async def main():
        limit, provider = Gradient2(40), Provider(knee=1000)
        async with load(Gate("m", limit, queue=1000, observer=Deaf()), provider, 60):
            await watch(limit, 120)
            provider.knee = 10
            assert min(await watch(limit, 60)) < 25
            provider.knee = 1000
            assert (await watch(limit, 180))[-1] > 35

    run(main())


# --- the rules, without a provider --------------------------------------------------------------------------------


def feed(limit, *, start, samples, in_flight, sample=1.0):
    for step in range(samples):
        limit.update(start + step * 0.11, sample=sample, dropped=False, in_flight=in_flight)


def test_a_limit_of_one_stays_one():
    limit = Gradient2(1)
    feed(limit, start=0, samples=100, in_flight=1)
    limit.update(50.0, sample=None, dropped=True, in_flight=1)
    assert limit.value == 1


@pytest.mark.parametrize(("start", "floor"), [(2, 2), (10, 4), (50, 12)])
def test_the_floor_is_a_quarter_of_the_start_and_at_least_four(start, floor):
    limit = Gradient2(start)
    for second in range(100):
        limit.update(2.0 * second, sample=None, dropped=True, in_flight=1)
    assert limit.value == floor


def test_it_does_not_grow_while_fewer_than_half_of_the_places_are_used():
    limit = Gradient2(20, ceiling=100)
    feed(limit, start=0, samples=200, in_flight=9)
    assert limit.value == 20
    feed(limit, start=100, samples=200, in_flight=20)
    assert limit.value > 20


def test_many_drops_of_one_moment_cut_once():
    limit = Gradient2(100)
    for _ in range(50):
        limit.update(7.0, sample=None, dropped=True, in_flight=100)
    assert limit.value == 80


def test_a_request_that_says_nothing_moves_nothing():
    limit = Gradient2(20, ceiling=100)
    for step in range(1000):
        limit.update(step, sample=None, dropped=False, in_flight=20)
    assert limit.value == 20


def test_a_new_ceiling_holds_at_once_and_can_be_lifted_again():
    limit = Gradient2(20)
    limit.resize(5)
    assert limit.value == 5
    limit.resize(20)
    assert limit.value == 20


def test_a_fixed_limit_is_moved_only_from_outside():
    limit = Fixed(5)
    feed(limit, start=0, samples=100, in_flight=5)
    limit.update(50.0, sample=None, dropped=True, in_flight=5)
    assert limit.value == 5
    limit.resize(7)
    assert limit.value == 7
