"""A phase: its budget, its outcome, its span, its metrics; and which limit it was that rang."""

import asyncio
from math import inf

import pytest

from service.errors import Cause, Forbidden, PersistFailed, PhaseTimeout
from service.runtime.phase import Phase, Total, phase
from telemetry.catalogue import PHASE_DURATION_SECONDS, PHASE_OUTCOMES_TOTAL, TIMEOUTS_TOTAL, Attr
from tests.unit.runtime.work import Work
from tests.virtual_loop import run

CHECK = Phase("policy.check")
RERANK = Phase("rerank", optional=True)
MODEL = Phase("model.stream", total_label="model.total")
EMIT = Phase("stream.emit", own_clock=True, aside=True)


def in_phase(block, row=CHECK, *, work=None, **options):
    """Run `await block(step)` as a phase; return the work and what was raised, if anything was."""
    work = work or Work()

    async def scene():
        with phase(work, row, **options) as step:
            await block(step)

    async def told():
        (error,) = await asyncio.gather(scene(), return_exceptions=True)
        return error

    return work, run(told())


def facts(work, name="policy.check"):
    return work.seen.span(name)["attributes"]


async def nothing(step):
    await asyncio.sleep(0.5)


async def too_long(step):
    await asyncio.sleep(50)


def raising(error):
    async def block(step):
        raise error

    return block


# --- outcomes ---------------------------------------------------------------------------------------------------

OUTCOMES = [
    ("ok", nothing, "UNSET"),
    ("skipped", lambda step: asyncio.sleep(0, step.skip()), "UNSET"),
    ("degraded", lambda step: asyncio.sleep(0, step.degrade()), "UNSET"),
    ("rejected", raising(Forbidden()), "UNSET"),
    ("error", raising(PersistFailed()), "ERROR"),
    ("error", raising(ZeroDivisionError("swordfish")), "ERROR"),
    ("timeout", too_long, "ERROR"),
]


@pytest.mark.parametrize(("outcome", "block", "status"), OUTCOMES)
def test_a_phase_has_one_outcome_in_its_span_and_its_metrics(outcome, block, status):
    work, _ = in_phase(block)
    assert facts(work)[Attr.OUTCOME] == outcome
    assert work.seen.span("policy.check")["status"] == status
    assert work.seen.value(PHASE_OUTCOMES_TOTAL, "policy.check", outcome) == 1
    assert work.seen.value(PHASE_OUTCOMES_TOTAL) == 1
    assert work.seen.value(PHASE_DURATION_SECONDS, "policy.check") == 1
    assert "swordfish" not in str(work.seen.spans)
    work.seen.assert_no_open_span()


@pytest.mark.parametrize(("cause", "outcome"), [(Cause.CLIENT_DISCONNECT, "cancelled"), (None, "abandoned")])
def test_a_cancelled_phase_is_cancelled_for_a_cause_and_abandoned_without_one(cause, outcome):
    work = Work(cause=cause)

    async def block():
        with phase(work, CHECK):
            await asyncio.sleep(50)

    async def scene():
        task = asyncio.create_task(block())
        await asyncio.sleep(0.5)
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled()

    run(scene())
    assert facts(work)[Attr.OUTCOME] == outcome
    assert work.seen.span("policy.check")["status"] == "UNSET"


def test_an_error_says_afterwards_which_innermost_phase_it_ended():
    async def block(step):
        with phase(step._work, CHECK):
            raise PersistFailed

    _, error = in_phase(block, MODEL)
    assert error.phase == "policy.check"


# --- budgets ----------------------------------------------------------------------------------------------------


def test_budget_and_remaining_are_on_the_span_from_the_start():
    work = Work(total=Total(25.0))
    in_phase(nothing, work=work)
    assert facts(work)[Attr.PHASE] == "policy.check"
    assert facts(work)[Attr.BUDGET_MS] == 1_000
    assert facts(work)[Attr.REMAINING_MS] == 25_000
    assert work.changes == [("policy.check", 1_000, None, None), ("policy.check", None, 500, "ok")]


def test_a_budget_given_replaces_that_of_the_plan():
    work, error = in_phase(too_long, budget=7.0)
    assert isinstance(error, PhaseTimeout)
    assert work.seen.total(PHASE_DURATION_SECONDS) == 7.0


@pytest.mark.parametrize(("row", "strategy"), [(CHECK, "fail_closed"), (RERANK, "fail_open")])
def test_at_its_budget_a_phase_raises_and_tells_its_strategy(row, strategy):
    work, error = in_phase(too_long, row)
    assert (error.phase, error.limit) == (row.name, "phase")
    assert facts(work, row.name)[Attr.ON_TIMEOUT] == strategy
    assert facts(work, row.name)[Attr.TIMEOUT_LIMIT] == "phase"
    assert facts(work, row.name)[Attr.ERROR_TYPE] == "timeout"
    assert work.seen.value(TIMEOUTS_TOTAL, row.name, "phase") == work.seen.value(TIMEOUTS_TOTAL) == 1
    assert work.seen.total(PHASE_DURATION_SECONDS) == 1.0


@pytest.mark.parametrize(
    ("deadline", "whose", "limit", "after"),
    [
        (0.5, "total", "total", 0.5),
        (0.5, "client", "client", 0.5),
        (1.0, "total", "phase", 1.0),
        (2.0, "total", "phase", 1.0),
    ],
)
def test_the_smaller_limit_rings_and_of_two_equal_ones_it_is_the_phase_s_own(deadline, whose, limit, after):
    work, error = in_phase(too_long, work=Work(total=Total(deadline, whose)))
    assert error.limit == limit
    assert work.seen.total(PHASE_DURATION_SECONDS) == after


def test_a_phase_with_a_clock_of_its_own_outlives_the_whole():
    work, error = in_phase(too_long, EMIT, work=Work(total=Total(-1.0)))
    assert (error.limit, work.seen.total(PHASE_DURATION_SECONDS)) == ("phase", 5.0)


def test_a_phase_without_a_budget_has_none_on_its_span():
    work, error = in_phase(too_long, EMIT, budget=inf)
    assert error is None
    assert Attr.BUDGET_MS not in facts(work, "stream.emit")


# --- limits within a phase --------------------------------------------------------------------------------------


def test_an_inner_limit_names_its_timeout():
    async def block(step):
        step.expect("model.gap", 2.0)
        await asyncio.sleep(1)
        step.expect("model.gap", 2.0)
        await asyncio.sleep(50)

    work, error = in_phase(block, MODEL)
    assert (error.phase, error.limit) == ("model.gap", "phase")
    assert work.seen.total(PHASE_DURATION_SECONDS) == 3.0
    assert facts(work, "model.stream")[Attr.OUTCOME] == "timeout"


def test_without_an_inner_limit_it_is_the_whole_phase_that_is_named():
    async def block(step):
        step.expect("model.gap", 2.0)
        step.relax()
        await asyncio.sleep(50)

    work, error = in_phase(block, MODEL)
    assert error.phase == "model.total"
    assert work.seen.total(PHASE_DURATION_SECONDS) == 10.0


def test_while_the_clock_stands_still_only_the_whole_s_limit_runs():
    async def block(step):
        step.expect("model.gap", 2.0)
        await asyncio.sleep(1)
        step.stop_clock()
        await asyncio.sleep(50)
        step.start_clock()
        await asyncio.sleep(50)

    work, error = in_phase(block, MODEL)
    assert error.phase == "model.gap"
    assert work.seen.total(PHASE_DURATION_SECONDS) == 52.0  # one second of two was left

    work, error = in_phase(block, MODEL, work=Work(total=Total(20.0)))
    assert (error.phase, error.limit) == ("model.total", "total")


def test_the_whole_s_limit_too_can_be_left_to_another_phase():
    async def block(step):
        step.stop_clock(total=False)
        await asyncio.sleep(50)
        step.start_clock()
        await asyncio.sleep(50)

    work, error = in_phase(block, MODEL, work=Work(total=Total(20.0)))
    assert error.limit == "total"
    assert work.seen.total(PHASE_DURATION_SECONDS) == 50.0


def test_it_tells_how_long_is_left_and_which_limit_of_its_own_is_ending_it():
    told = []

    async def block(step):
        told.append((step.left(), step.unspent, step.broken_limit))
        step.expect("model.gap", 2.0)
        told.append((step.left(), step.unspent, step.broken_limit))
        try:
            await asyncio.sleep(50)
        finally:
            told.append((step.left(), step.unspent, step.broken_limit))

    in_phase(block, MODEL)
    assert told == [(10.0, 10.0, None), (2.0, 10.0, None), (0.0, 8.0, "model.gap")]


# --- where the work is ------------------------------------------------------------------------------------------


def test_where_the_work_is_follows_the_innermost_phase():
    work, trail = Work(), []

    async def scene():
        with phase(work, MODEL) as step:
            trail.append(work.where)
            step.at("model.first_token")
            with phase(work, CHECK):
                trail.append(work.where)
            trail.append(work.where)
            step.at("model.tokens")
            trail.append(list(work.phases))
            with phase(work, EMIT):
                trail.append(work.where)  # beside the flow, so never where it is
        trail.append(work.where)

    run(scene())
    assert trail == [
        "model.stream", "policy.check", "model.first_token", ["model.tokens"], "model.tokens", "model.tokens",
    ]  # fmt: skip
    assert work.phases == []


def test_two_phases_side_by_side_leave_the_one_that_is_still_open():
    work = Work()

    async def one(row, seconds):
        with phase(work, row):
            await asyncio.sleep(seconds)

    async def scene():
        async with asyncio.TaskGroup() as group:
            group.create_task(one(CHECK, 0.9))
            group.create_task(one(RERANK, 0.1))
            await asyncio.sleep(0.5)
            assert work.where == "policy.check"

    for seed in range(5):
        run(scene(), seed=seed)


def test_the_span_is_current_within_and_a_child_of_what_was_current_before():
    work = Work()

    async def scene():
        with work.observer.span("POST /chat/stream", kind="server") as server:
            with phase(work, CHECK) as step:
                assert work.observer.current().span_id == step.span.span_id
            assert work.observer.current().span_id == server.span_id

    run(scene())
    assert work.seen.span("policy.check")["parent"] == work.seen.span("POST /chat/stream")["span_id"]
