"""What every engine of the jobs must do, whoever decides on the who and the when: the embedded one and Temporal."""

import asyncio

import pytest

from service.errors import InvalidAnswer, ProviderFailure
from telemetry import catalogue as rows
from telemetry.catalogue import Attr
from tests.contract.engines import play
from tests.support import PATIENCE


@pytest.fixture(scope="module", params=["embedded", "temporal"])
def server(request):
    """What the engine needs beside the database."""
    return request.getfixturevalue("temporal") if request.param == "temporal" else None


@pytest.fixture
def run(server, tmp_path):
    """Run a scenario on each engine in turn."""
    return lambda scenario: play(tmp_path, scenario, server)


def step_events(*names):
    return [(kind, name) for name in names for kind in ("step_started", "step_completed")]


def test_a_job_runs_its_steps_in_order_and_ends_with_its_result(run):
    async def scenario(site):
        site.stages(3)
        site.engine()
        job_id = await site.submit()
        await site.until_ended(job_id)
        job = await site.job(job_id)
        assert (job.status, job.result, job.progress) == ("completed", "[0, 1, 2]", 1.0)
        assert await site.events(job_id) == [
            "job_queued",
            "job_started",
            *step_events("s0", "s1", "s2"),
            "job_completed",
        ]
        seen = site.recorder
        await site.until(lambda: seen.value(rows.JOBS_TOTAL, "test", "completed") == 1)
        assert seen.value(rows.JOBS_RECOVERED_TOTAL) == 0

    run(scenario)


def test_a_job_that_was_asked_for_while_nobody_worked_is_done_once_somebody_does(run):
    async def scenario(site):
        site.stages(1)
        job_ids = [await site.submit() for _ in range(3)]
        assert [(await site.job(one)).position for one in job_ids] == [1, 2, 3]
        site.engine()
        await site.until_ended(*job_ids)
        assert len(site.did) == 3

    run(scenario)


def test_a_cancellation_stops_what_is_awaited(run):
    async def scenario(site):
        stopped = asyncio.Event()

        async def endless(use, given):
            try:
                await asyncio.get_running_loop().create_future()
            finally:
                stopped.set()

        site.stages(1, endless)
        site.engine()
        job_id = await site.submit()
        await site.until_begun()
        assert await site.desk.cancel("acme", job_id) == "running"
        await site.until_ended(job_id)
        assert stopped.is_set()
        job = await site.job(job_id)
        assert (job.status, job.error_code) == ("cancelled", "cancelled")
        assert (await site.events(job_id))[-1] == "job_cancelled"
        await site.until(lambda: site.recorder.value(rows.JOBS_TOTAL, "test", "cancelled") == 1)

    run(scenario)


def test_what_is_cancelled_while_it_waits_never_begins(run):
    async def scenario(site):
        go = asyncio.Event()

        async def wait(use, given):
            await go.wait()

        site.stages(1, wait)
        site.engine(places=1)
        first = await site.submit()
        await site.until_begun()
        second, third = await site.submit(), await site.submit()
        assert await site.desk.cancel("acme", second) == "queued"
        go.set()
        await site.until_ended(first, third)
        assert (await site.job(second)).status == "cancelled"
        assert await site.events(second) == ["job_queued", "job_cancelled"]
        assert not [key for key in site.did if key.startswith(second)]

    run(scenario)


def test_a_failure_that_may_pass_is_tried_again_and_one_that_may_not_ends_the_job(run):
    async def scenario(site):
        failures = [ProviderFailure("5xx", retry_safe=True), ProviderFailure("5xx", retry_safe=True), None]

        async def flaky(use, given):
            if error := failures.pop(0):
                raise error
            return "well"

        async def bad(use, given):
            raise InvalidAnswer

        async def flow(job, given):
            return await job.step(site.step("flaky", flaky))

        async def hopeless(job, given):
            return await job.step(site.step("bad", bad, attempts=2))

        site.kind(flow)
        site.kind(hopeless, name="other")
        site.engine()
        one, two = await site.submit(), await site.submit(kind="other")
        await site.until_ended(one, two)
        assert (await site.job(one)).result == '"well"'
        attempts = [event.data["attempt"] for event in await site.ledger.log(one, 2, 10) if "attempt" in event.data]
        assert attempts == [1, 2, 3, 3]
        failed = await site.job(two)
        assert (failed.status, failed.error_code) == ("failed", "invalid_answer")
        assert site.did.count(f"{two}/bad") == 2
        await site.until(lambda: site.recorder.value(rows.JOBS_TOTAL, "other", "failed") == 1)

    run(scenario)


def test_a_job_has_no_longer_than_its_total(run):
    async def scenario(site):
        async def endless(use, given):
            await asyncio.get_running_loop().create_future()

        site.stages(1, endless, total=0.3)
        site.engine()
        job_id = await site.submit()
        await site.until_ended(job_id)
        job = await site.job(job_id)
        assert (job.status, job.error_code) == ("failed", "timeout")

    run(scenario)


def test_an_exception_that_nobody_foresaw_fails_the_job_and_its_words_go_nowhere(run):
    async def scenario(site):
        async def broken(use, given):
            raise ValueError("a secret")

        site.stages(1, broken)
        site.engine()
        job_id = await site.submit()
        await site.until_ended(job_id)
        assert (await site.job(job_id)).error_code == "internal"
        (bug,) = site.recorder.logged(rows.LOG_BUG)
        assert "secret" not in str(bug) + str(site.recorder.spans) + str(await site.ledger.log(job_id, 0, 99))

    run(scenario)


def test_at_the_end_of_a_process_a_job_stops_at_its_next_checkpoint_and_goes_on_in_another(run):
    async def scenario(site):
        go = asyncio.Event()

        async def wait(use, given):
            await go.wait()
            return given

        site.stages(3, wait)
        first = site.engine()
        job_id = await site.submit()
        await site.until_begun()
        site.engines.remove(first)
        draining = asyncio.create_task(first.drain(10 * PATIENCE))
        await asyncio.sleep(0)
        go.set()
        async with asyncio.timeout(PATIENCE):
            await draining
        await first.stop()
        assert site.did == [f"{job_id}/s0"]
        assert (await site.job(job_id)).status == "queued"
        site.engine()
        await site.until_ended(job_id)
        assert site.did == [f"{job_id}/s{number}" for number in range(3)]
        assert (await site.events(job_id)).count("job_started") == 2
        assert site.recorder.value(rows.JOBS_RECOVERED_TOTAL) == 0

    run(scenario)


def test_a_step_that_does_not_come_to_its_end_in_time_is_stopped_and_begun_again_elsewhere(run):
    async def scenario(site):
        patient = asyncio.Event()

        async def wait(use, given):
            await patient.wait()

        site.stages(1, wait)
        first = site.engine()
        job_id = await site.submit()
        await site.until_begun()
        site.engines.remove(first)
        await first.drain(0.05)
        await first.stop()
        assert (await site.job(job_id)).status == "queued"
        patient.set()
        site.engine()
        await site.until_ended(job_id)
        assert site.did == [f"{job_id}/s0"] * 2

    run(scenario)


def test_a_process_works_on_no_more_at_once_than_it_has_places_and_than_the_kind_allows(run):
    async def scenario(site):
        async def short(use, given):
            most.append((len(engine.crew), sum(held.run.kind.name == "test" for held in engine.crew.held)))
            await asyncio.sleep(0.02)

        most = []
        site.stages(1, short, concurrency=2)
        site.stages(1, short, name="other")
        engine = site.engine(places=3)
        job_ids = [await site.submit(kind=kind) for _ in range(8) for kind in ("test", "other")]
        await site.until_ended(*job_ids)
        assert max(total for total, _ in most) <= 3
        assert max(tests for _, tests in most) <= 2
        assert site.recorder.value(rows.CONCURRENCY_IN_USE, "jobs") == 0

    run(scenario)


def test_a_tenant_with_few_jobs_does_not_wait_for_all_of_one_with_many(run):
    async def scenario(site):
        site.stages(1)
        greedy = [await site.submit(priority=9) for _ in range(40)]
        rival = await site.submit(tenant="rival")
        site.engine(places=1)
        await site.until_ended(*greedy)
        await site.until_ended(rival, tenant="rival")
        assert site.did.index(f"{rival}/s0") < 20

    run(scenario)


def test_of_one_tenant_s_jobs_the_urgent_go_before_most_of_those_that_came_earlier(run):
    async def scenario(site):
        site.stages(1)
        usual = [await site.submit() for _ in range(40)]
        urgent = await site.submit(priority=9)
        site.engine(places=1)
        await site.until_ended(*usual, urgent)
        assert site.did.index(f"{urgent}/s0") < 20

    run(scenario)


def test_a_job_is_a_trace_of_its_own_linked_to_the_request(run):
    async def scenario(site):
        site.stages(2)
        site.engine()
        with site.observer.span("POST /jobs", kind="server") as span:
            job_id = await site.submit(trace=site.observer.trace_headers())
            asked = span.trace_id
        await site.until_ended(job_id)
        await site.until(lambda: site.recorder.named("job test"))
        job = site.recorder.span("job test")
        assert job["parent"] == ""
        assert job["trace_id"] != asked
        handed_over = [span["trace_id"] for span in site.recorder.named("job.dispatch")]
        assert job["links"] == [asked, *handed_over]
        assert job["attributes"][Attr.OUTCOME] == "completed"
        steps = site.recorder.named("job.step")
        assert [step["attributes"][Attr.JOB_STEP] for step in steps] == ["s0", "s1"]
        assert {step["parent"] for step in steps} == {job["span_id"]}
        assert {step["attributes"][Attr.BUDGET_MS] for step in steps} == {60_000}

    run(scenario)
