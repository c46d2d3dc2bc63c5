"""What holds for every provider, the simulated one and the real local model too."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, aclosing, asynccontextmanager
from dataclasses import dataclass

import pytest
import uvloop

from service.errors import ProviderFailure
from service.ports import ChatMessage, Delta, Finish, Model, ModelRequest, Text, Usage
from service.providers import local
from service.providers.registry import Means, build
from service.providers.rows import ProviderRow
from telemetry.testing import recording_observer
from tests.contract.provider_server import Answer, Provider, provider, recorded
from tests.support import PATIENCE

ASKED = (ChatMessage("system", "Answer briefly."), ChatMessage("user", "What is the capital of France?"))
MEANS = Means(recording_observer()[0], now=lambda: 0.0, key="k")  # nothing here looks at what was observed


@dataclass
class Subject:
    """A model, what to ask it, and the server behind it if that is ours."""

    model: Model
    request: ModelRequest
    server: Provider | None = None


Opens = Callable[[str], AbstractAsyncContextManager[Subject]]


@asynccontextmanager
async def over_http(kind: str, answer: Answer) -> AsyncIterator[Subject]:
    async with provider(answer) as server:
        row = ProviderRow("upstream", kind, ("small",), base_url=f"{server.base_url}/v1")
        model = build(row, MEANS)
        try:
            yield Subject(model, ModelRequest("small", ASKED), server)
        finally:
            await model.close()


def http(kind: str, text: str, cut: str) -> Opens:
    answers = {
        "whole": Answer(recorded(text)),
        "held": Answer(recorded(cut), then="hold"),
        "cut": Answer(recorded(cut), then="cut"),
        "silent": Answer(silent=True, then="hold"),
    }
    return lambda story: over_http(kind, answers[story])


SIMULATED = {"whole": "sim:ttft_ms=1,interval_ms=0,tokens=9", "held": "sim:ttft_ms=0,stall_at=1,tokens=9"}
SIMULATED |= {"cut": "sim:ttft_ms=0,garbage_at=1,tokens=9", "silent": "sim:stall_at=0,ttft_ms=0"}


@asynccontextmanager
async def simulated(story: str) -> AsyncIterator[Subject]:
    model = build(ProviderRow("simulated", "simulated", ("sim",)), MEANS)
    yield Subject(model, ModelRequest(SIMULATED[story], ASKED))
    await model.close()


@asynccontextmanager
async def real(story: str) -> AsyncIterator[Subject]:
    row = ProviderRow("local", "local", ("smollm2",), max_concurrency=1, max_output_tokens=200)
    model = build(row, MEANS)
    try:
        yield Subject(model, ModelRequest("smollm2", ASKED, max_output_tokens=24))
    finally:
        await model.close()


missing = local.available()
REAL = pytest.param(real, id="local", marks=pytest.mark.skipif(missing is not None, reason=str(missing)))
OVER_HTTP = [
    pytest.param(http("openai_compatible", "openai_text.sse", "openai_cut.sse"), id="openai_compatible"),
    pytest.param(http("anthropic", "anthropic_text.sse", "anthropic_cut.sse"), id="anthropic"),
]
FAKES = [pytest.param(simulated, id="simulated"), *OVER_HTTP]
EVERY = [*FAKES, REAL]
LOOPS = [pytest.param(asyncio.new_event_loop, id="asyncio"), pytest.param(uvloop.new_event_loop, id="uvloop")]


async def all_of(subject: Subject, seen: list[Delta] | None = None) -> list[Delta]:
    seen = [] if seen is None else seen
    async with aclosing(subject.model.stream(subject.request)) as deltas:
        async for said in deltas:
            seen += said
    return seen


@pytest.mark.parametrize("opens", EVERY)
def test_an_answer_is_text_then_its_end_then_the_count_of_tokens(opens: Opens):
    async def scenario() -> list[Delta]:
        async with opens("whole") as subject:
            return await all_of(subject)

    *texts, finish, usage = asyncio.run(scenario())
    assert texts
    assert all(isinstance(delta, Text) and delta for delta in texts)
    assert isinstance(finish, Finish)
    assert isinstance(usage, Usage)
    assert usage.prompt_tokens > 0
    assert usage.generated_tokens > 0


@pytest.mark.parametrize("opens", FAKES)
def test_a_stream_that_is_cut_is_a_failure_after_its_text(opens: Opens):
    async def scenario() -> tuple[list[Delta], ProviderFailure]:
        seen: list[Delta] = []
        async with opens("cut") as subject:
            with pytest.raises(ProviderFailure) as failure:
                await all_of(subject, seen)
        return seen, failure.value

    seen, failure = asyncio.run(scenario())
    assert [type(delta) for delta in seen] == [Text]
    assert failure.kind == "malformed"


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("opens", OVER_HTTP)
def test_closing_a_stream_leaves_the_provider_at_once(opens: Opens, loop):
    async def scenario() -> None:
        async with opens("held") as subject:
            async with aclosing(subject.model.stream(subject.request)) as deltas:
                assert [type(delta) for delta in await anext(deltas)] == [Text]
                assert not subject.server.left.is_set()
            async with asyncio.timeout(PATIENCE):
                await subject.server.left.wait()

    with asyncio.Runner(loop_factory=loop) as runner:
        runner.run(scenario())


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("story", ["silent", "held"])
@pytest.mark.parametrize("opens", OVER_HTTP)
def test_cancelling_a_wait_leaves_the_provider_at_once(opens: Opens, story: str, loop):
    async def scenario() -> None:
        async with opens(story) as subject:
            waiting = asyncio.create_task(all_of(subject))
            await subject.server.arrived.wait()
            waiting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiting
            async with asyncio.timeout(PATIENCE):
                await subject.server.left.wait()

    with asyncio.Runner(loop_factory=loop) as runner:
        runner.run(scenario())


@pytest.mark.parametrize("opens", FAKES)
def test_a_cancelled_stream_leaves_no_task_behind(opens: Opens):
    async def scenario() -> None:
        async with opens("silent") as subject:
            before = asyncio.all_tasks()
            waiting = asyncio.create_task(all_of(subject))
            if subject.server:
                await subject.server.arrived.wait()
            else:
                await asyncio.sleep(0)
            waiting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiting
            ours = {task for task in asyncio.all_tasks() - before if "Provider.serve" not in repr(task)}
            assert ours == set()

    asyncio.run(scenario())


@pytest.mark.skipif(missing is not None, reason=str(missing))
def test_a_closed_stream_stops_the_local_model_so_that_the_next_one_need_not_wait():
    async def scenario() -> tuple[float, float]:
        """The seconds of a long answer, and the fewest of three short waits behind one that was left."""
        loop = asyncio.get_running_loop()
        async with real("whole") as subject:
            long = ModelRequest("smollm2", (ChatMessage("user", "Count from 1 to 1000."),), max_output_tokens=200)
            await all_of(subject)
            began = loop.time()
            async with aclosing(subject.model.stream(long)) as deltas:
                async for _ in deltas:
                    pass
            whole, waits = loop.time() - began, []
            for _ in range(3):
                async with aclosing(subject.model.stream(long)) as deltas:
                    await anext(deltas)
                began = loop.time()
                async with aclosing(subject.model.stream(subject.request)) as deltas:
                    await anext(deltas)
                waits.append(loop.time() - began)
            return whole, min(waits)

    whole, wait = asyncio.run(scenario())
    assert wait < whole / 2
