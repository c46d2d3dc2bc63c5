"""A place for as long as a block runs: at once, after a wait that is a phase of its own, or a refusal."""

import asyncio

import pytest

from service.errors import Overloaded, RateLimited
from service.runtime.admission import place
from service.runtime.gate import Gate
from service.runtime.phase import Phase, Total, phase
from telemetry.catalogue import TIMEOUTS_TOTAL, Attr
from tests.unit.runtime.work import Work
from tests.virtual_loop import run

MODEL = Phase("model.stream", total_label="model.total")


def gate_for(work, limit=1, **more):
    return Gate("model:simulated", limit, queue=more.pop("queue", 10), observer=work.observer, **more)


async def hold(work, gate, seconds, tenant="demo", **options):
    async with place(work, gate, tenant, **options):
        await asyncio.sleep(seconds)


def later(seconds, call, *values):
    asyncio.get_running_loop().call_later(seconds, call, *values)


def test_a_free_place_is_had_at_once_without_a_phase_and_given_back():
    work = Work()
    gate = gate_for(work)

    async def scene():
        async with place(work, gate, "demo"):
            assert gate.statistics().in_use == 1
            assert gate.audit() == 0
        assert gate.statistics().in_use == 0

    run(scene())
    assert work.seen.named("admission") == []


def test_the_request_s_own_place_always_shows_as_a_phase():
    work = Work()
    gate = gate_for(work)
    run(hold(work, gate, 1, always=True))
    facts = work.seen.span("admission")["attributes"]
    assert facts[Attr.OUTCOME] == "ok"
    assert facts[Attr.RESOURCE] == "model:simulated"


@pytest.mark.parametrize("error", [ZeroDivisionError, asyncio.CancelledError])
def test_it_is_given_back_however_the_block_ends(error):
    work = Work()
    gate = gate_for(work)

    async def scene():
        with pytest.raises(error):
            async with place(work, gate, "demo"):
                raise error
        assert gate.statistics().in_use == 0

    run(scene())


def test_a_wait_is_a_phase_and_is_told_before_it_begins():
    work, told = Work(), []
    gate = gate_for(work)

    async def tell():
        told.append(asyncio.get_running_loop().time())

    async def scene():
        first = asyncio.create_task(hold(work, gate, 1.5))
        await asyncio.sleep(0.5)
        await hold(work, gate, 1, on_wait=tell)
        await first

    run(scene())
    assert told == [0.5]
    assert work.seen.span("admission")["attributes"][Attr.OUTCOME] == "ok"


@pytest.mark.parametrize(("options", "error"), [({}, Overloaded), ({"tenant_limit": 1}, RateLimited)])
def test_a_wait_over_its_budget_is_a_refusal_that_names_the_admission(options, error):
    work = Work()
    gate = gate_for(work, limit=2 if options else 1, **options)

    async def scene():
        first = asyncio.create_task(hold(work, gate, 9))
        await asyncio.sleep(0)
        with pytest.raises(error) as refused:
            await hold(work, gate, 1)
        assert asyncio.get_running_loop().time() == 2.0
        assert refused.value.phase == "admission"
        assert refused.value.retry_after >= 1
        await first
        assert gate.statistics().in_use == gate.statistics().waiting == 0

    run(scene())
    assert work.seen.value(TIMEOUTS_TOTAL, "admission", "phase") == work.seen.value(TIMEOUTS_TOTAL) == 1


def test_over_a_full_queue_it_is_refused_without_a_wait():
    work = Work()
    gate = gate_for(work, queue=0)

    async def scene():
        first = asyncio.create_task(hold(work, gate, 1))
        await asyncio.sleep(0)
        with pytest.raises(Overloaded) as refused:
            await hold(work, gate, 1)
        assert asyncio.get_running_loop().time() == 0
        assert refused.value.phase == "admission"
        await first

    run(scene())
    assert work.seen.value(TIMEOUTS_TOTAL) == 0


def test_during_the_wait_the_clock_of_the_phase_that_needs_the_place_stands_still():
    work = Work(budgets={"admission": 20.0, "model.stream": 3.0})
    gate = gate_for(work, limit=0)

    async def scene():
        later(15, gate.set_limit, 1)
        with phase(work, MODEL) as step:
            step.expect("model.first_token", 2.0)
            async with place(work, gate, "demo", instead_of=step):
                await asyncio.sleep(1.9)
        assert work.where == "model.stream"

    run(scene())
    assert work.seen.value(TIMEOUTS_TOTAL) == 0


@pytest.mark.parametrize("seed", range(20))
def test_when_the_whole_s_limit_ends_the_wait_it_is_the_admission_s_and_not_the_model_s(seed):
    work = Work(total=Total(1.0))
    gate = gate_for(work, limit=0)

    async def ask_model():
        with phase(work, MODEL) as step:
            step.expect("model.first_token", 5.0)
            await hold(work, gate, 1, instead_of=step)

    async def scene():
        with pytest.raises(Overloaded):
            await ask_model()
        assert asyncio.get_running_loop().time() == 1.0

    run(scene(), seed=seed)
    assert work.seen.value(TIMEOUTS_TOTAL, "admission", "total") == work.seen.value(TIMEOUTS_TOTAL) == 1


@pytest.mark.parametrize("seed", range(50))
def test_a_place_that_is_granted_in_the_moment_of_a_timeout_or_a_cancellation_is_not_lost(seed):
    work = Work()
    gate = gate_for(work)

    async def scene():
        first = asyncio.create_task(hold(work, gate, 2.0))  # until the waiters' budget is used up
        waiters = [asyncio.create_task(hold(work, gate, 0.1)) for _ in range(3)]
        later(2.0, waiters[0].cancel)
        await asyncio.wait([first, *waiters])
        assert all(one.cancelled() or isinstance(one.exception(), Overloaded | None) for one in waiters)
        assert (gate.statistics().in_use, gate.statistics().waiting) == (0, 0)

    run(scene(), seed=seed)
