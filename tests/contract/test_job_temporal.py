"""What Temporal adds: it may be away or be killed; of a job's matter it learns nothing."""

import asyncio
import json
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing
from pathlib import Path

import pytest
from temporalio.client import WorkflowExecutionStatus, WorkflowHistory
from temporalio.service import RPCError, RPCStatusCode
from temporalio.worker import Replayer

from service.jobs.temporal.attributes import COMMAND, register
from service.jobs.temporal.target import Unusable
from service.jobs.temporal.tracing import Tracing
from service.jobs.temporal.workflow import JobWorkflow
from telemetry import catalogue as rows
from tests.contract.engines import play
from tests.contract.temporal_server import TemporalServer
from tests.contract.temporal_site import Door, until_status, workflow_of
from tests.support import free_port

HISTORIES = Path(__file__).with_name("histories")


@pytest.fixture
def run(temporal, tmp_path):
    return lambda scenario: play(tmp_path, scenario, temporal)


def test_what_was_asked_for_while_temporal_was_away_is_done_once_it_is_there(tmp_path):
    server = TemporalServer(tmp_path)

    async def scenario(site):
        site.stages(2)
        engine = site.engine()
        assert engine.state() == "starting"
        job_ids = [await site.submit() for _ in range(3)]
        await site.until(lambda: engine.state() == "failed")
        (said, *_) = site.recorder.logged(rows.LOG_TEMPORAL)
        assert (said["address"], said["failure"]) == (server.address, "it cannot be reached")
        assert {(await site.job(one)).status for one in job_ids} == {"queued"}
        assert site.recorder.value(rows.DEGRADATIONS_TOTAL, "jobs") == 1
        await asyncio.to_thread(server.start)
        await site.until_ended(*job_ids)
        assert engine.state() == "ready"

    try:
        play(tmp_path, scenario, server)
    finally:
        server.kill()


def test_a_server_that_is_killed_and_started_again_on_its_file_loses_nothing(tmp_path):
    async def scenario(site):
        door = Door()
        site.stages(2, door)
        engine = site.engine(places=2)
        job_ids = [await site.submit() for _ in range(4)]
        await site.until_begun(2)
        await asyncio.to_thread(server.kill)
        later = await site.submit()
        await site.until(lambda: engine.state() == "failed")
        door.open()
        await asyncio.to_thread(server.start)
        await site.until_ended(*job_ids, later)
        for job_id in (*job_ids, later):
            events = await site.events(job_id)
            assert events.count("job_completed") == 1
            assert events[-1] == "job_completed"
            assert events.count(("step_completed", "s0")) == events.count(("step_completed", "s1")) == 1
            await until_status(site, job_id, WorkflowExecutionStatus.COMPLETED)
        assert engine.state() == "ready"

    with TemporalServer(tmp_path) as server:
        play(tmp_path, scenario, server)


def test_the_trace_goes_from_the_request_by_way_of_temporal_to_the_work(run):
    async def scenario(site):
        site.stages(1)
        site.engine()
        with site.observer.span("POST /jobs", kind="server") as span:
            job_id = await site.submit(trace=site.observer.trace_headers())
            asked = span.trace_id
        await site.until_ended(job_id)
        await site.until(lambda: site.recorder.named("job test"))
        handed, worked = site.recorder.span("job.dispatch"), site.recorder.span("job test")
        assert handed["links"] == [asked]
        assert worked["links"] == [asked, handed["trace_id"]]

    run(scenario)


def test_temporal_learns_nothing_of_what_a_job_is_about(run):
    async def scenario(site):
        async def echo(use, given):
            return "the matter of it"

        site.stages(2, echo)
        site.engine()
        job_id = await site.submit(input=json.dumps({"question": "the matter of it"}))
        await site.until_ended(job_id)
        assert "matter" in (await site.job(job_id)).result
        await until_status(site, job_id, WorkflowExecutionStatus.COMPLETED)
        history = (await (await workflow_of(site, job_id)).fetch_history()).to_json()
        assert "matter" not in history
        assert "ann" not in history

    run(scenario)


def test_the_workflow_does_the_same_again_when_a_history_is_replayed():
    """The histories were made by earlier versions: what they began, this one must be able to go on with."""
    files = sorted(HISTORIES.glob("*.json"))
    assert {file.stem for file in files} >= {"completed", "failed", "cancelled", "cancelled_waiting", "given_back"}
    histories = [WorkflowHistory.from_json(file.stem, file.read_text()) for file in files]

    async def replay(replayer):
        async def each():
            for history in histories:
                yield history

        async with aclosing(each()) as given, replayer.workflow_replay_iterator(given) as results, aclosing(results):
            return [(one.history.workflow_id, one.replay_failure) async for one in results]

    with ThreadPoolExecutor(1) as executor:
        options = {"workflows": [JobWorkflow], "interceptors": [Tracing(None)], "workflow_task_executor": executor}
        assert asyncio.run(replay(Replayer(**options))) == [(file.stem, None) for file in files]


def test_a_process_that_finds_no_temporal_ends_all_the_same(tmp_path):
    nowhere = TemporalServer(tmp_path)
    nowhere.address = f"127.0.0.1:{free_port()}"

    async def scenario(site):
        site.stages(1)
        engine = site.engine()
        job_id = await site.submit()
        await site.until(lambda: engine.state() == "failed")
        assert await site.desk.cancel("acme", job_id) == "queued"

    play(tmp_path, scenario, nowhere)


class Refusing:
    """A namespace without the attributes, that lets nobody add them."""

    namespace = "default"

    def __init__(self, status):
        self.operator_service = self
        self._status = status

    async def list_search_attributes(self, request):
        class Answer:
            custom_attributes = {"ForebayKind": 2}  # noqa: RUF012

        return Answer

    async def add_search_attributes(self, request):
        assert set(request.search_attributes) == {"ForebayTenant", "ForebayStatus"}
        raise RPCError("no", self._status, b"")


def test_search_attributes_that_may_not_be_made_are_told_with_the_command_that_makes_them():
    with pytest.raises(Unusable, match="ForebayTenant") as caught:
        asyncio.run(register(Refusing(RPCStatusCode.PERMISSION_DENIED)))
    assert COMMAND in str(caught.value)
    asyncio.run(register(Refusing(RPCStatusCode.ALREADY_EXISTS)))
