"""What Temporal's own operators see of jobs and may do with them: find, cancel, pause."""

import pytest
from temporalio.api.common.v1 import WorkflowExecution
from temporalio.api.workflowservice.v1 import PauseActivityRequest, UnpauseActivityRequest
from temporalio.client import Client, WorkflowExecutionStatus

from telemetry import catalogue as rows
from tests.contract.engines import play
from tests.contract.temporal_site import Door, until_handed_over, until_status, workflow_of


@pytest.fixture
def run(temporal, tmp_path):
    return lambda scenario: play(tmp_path, scenario, temporal)


def test_an_operator_finds_a_job_by_its_kind_its_tenant_and_its_status(run):
    async def scenario(site):
        door = Door()
        site.stages(1)
        site.stages(1, door, name="other")
        site.engine()
        done, open_one = await site.submit(tenant="rival"), await site.submit(kind="other")
        await site.until_ended(done, tenant="rival")
        client = await Client.connect(site.temporal.address)

        async def found(query):
            return {one.id async for one in client.list_workflows(query)} & {done, open_one}

        async def both_are_found():
            finished = "ForebayKind = 'test' AND ForebayTenant = 'rival' AND ForebayStatus = 'completed'"
            running = "ForebayKind = 'other' AND ForebayTenant = 'acme' AND ForebayStatus = 'running'"
            return (await found(finished), await found(running)) == ({done}, {open_one})

        await site.until(both_are_found)
        door.open()
        await site.until_ended(open_one)

    run(scenario)


def test_how_a_job_ends_is_how_its_workflow_ends(run):
    async def scenario(site):
        async def bad(use, given):
            raise ValueError

        door = Door()
        site.stages(1)
        site.stages(1, bad, name="other")
        site.engine()
        good, failed = await site.submit(), await site.submit(kind="other")
        await until_status(site, good, WorkflowExecutionStatus.COMPLETED)
        await until_status(site, failed, WorkflowExecutionStatus.FAILED)
        site.stages(1, door)
        stopped = await site.submit()
        await site.until_begun(3)
        await site.desk.cancel("acme", stopped)
        await until_status(site, stopped, WorkflowExecutionStatus.CANCELED)
        assert (await site.job(stopped)).status == "cancelled"

    run(scenario)


def test_an_operator_of_temporal_cancels_a_job_that_runs(run):
    async def scenario(site):
        site.stages(1, Door())
        site.engine()
        job_id = await site.submit()
        await site.until_begun()
        await (await workflow_of(site, job_id)).cancel()
        await site.until_ended(job_id)
        assert (await site.job(job_id)).status == "cancelled"
        await until_status(site, job_id, WorkflowExecutionStatus.CANCELED)

    run(scenario)


def test_an_operator_of_temporal_cancels_a_job_that_waits(run):
    async def scenario(site):
        door = Door()
        site.stages(1, door)
        site.engine(places=1)
        first = await site.submit()
        await site.until_begun()
        second = await site.submit()
        await until_handed_over(site, second)
        await (await workflow_of(site, second)).cancel()
        await site.until_ended(second)
        assert await site.events(second) == ["job_queued", "job_cancelled"]
        assert site.recorder.value(rows.JOBS_TOTAL, "test", "cancelled") == 1
        door.open()
        await site.until_ended(first)

    run(scenario)


def test_what_an_operator_of_temporal_pauses_is_given_back_until_it_goes_on(run):
    async def scenario(site):
        door = Door()
        site.stages(1, door)
        site.engine()
        job_id = await site.submit()
        await site.until_begun()
        client = await Client.connect(site.temporal.address)
        execution = WorkflowExecution(workflow_id=job_id)
        await client.workflow_service.pause_activity(
            PauseActivityRequest(namespace="default", execution=execution, type="job.work")
        )

        async def given_back():
            return (await site.job(job_id)).status == "queued"

        await site.until(given_back)
        door.open()
        await client.workflow_service.unpause_activity(
            UnpauseActivityRequest(namespace="default", execution=execution, type="job.work")
        )
        await site.until_ended(job_id)
        assert (await site.job(job_id)).status == "completed"

    run(scenario)
