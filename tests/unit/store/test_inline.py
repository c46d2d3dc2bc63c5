"""The database of virtual time: faults and delays on demand, the same ones for the same seed."""

import asyncio
from random import Random

from service.store.inline import Conditions, InlineDriver
from service.store.statements import tenants
from tests.virtual_loop import run


def named(name):
    yield "INSERT INTO tenants (id, created_at) VALUES (?, 1)", (name,)
    return name


async def hundred_writes(seed):
    driver = InlineDriver(Random(seed), Conditions(failing=0.3))
    results = await asyncio.gather(*(driver.write(named(f"t{n:02}")) for n in range(100)), return_exceptions=True)
    driver.conditions.failing = 0.0
    kept = await driver.read(tenants())
    await driver.close()
    return tuple(result for result in results if isinstance(result, str)), kept, asyncio.get_running_loop().time()


def test_the_share_that_is_to_fail_fails_and_leaves_nothing():
    done, kept, _ = run(hundred_writes(1))
    assert done == kept
    assert 50 <= len(done) <= 90


def test_one_seed_is_one_run():
    assert run(hundred_writes(7), seed=7) == run(hundred_writes(7), seed=7)
    assert run(hundred_writes(7), seed=7) != run(hundred_writes(8), seed=8)


def test_a_database_that_is_slow_is_slow_in_virtual_time():
    async def scenario():
        driver = InlineDriver(Random(1), Conditions(wait=1.0, commit=1.0))
        await driver.write(named("acme"))
        await driver.close()
        return asyncio.get_running_loop().time()

    assert 0.1 < run(scenario()) < 5
