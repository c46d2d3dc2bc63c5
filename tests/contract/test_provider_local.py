"""The life of the local model's child process: with small children of our own, and with the real one."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from contextlib import aclosing, asynccontextmanager
from pathlib import Path

import pytest
import uvloop

from service.errors import ProviderFailure
from service.ports import ChatMessage, Delta, Finish, ModelRequest, Text
from service.providers import local
from service.providers.local import LocalModel
from service.providers.rows import ProviderRow
from service.providers.upstream import Upstream
from telemetry.testing import recording_observer
from tests.contract.provider_server import Answer, provider, recorded
from tests.support import PATIENCE

ROW = ProviderRow("local", "local", ("smollm2",), max_concurrency=1, max_output_tokens=200)
REQUEST = ModelRequest("smollm2", (ChatMessage("user", "What is the capital of France?"),), max_output_tokens=5)
missing = local.available()
needs_the_real_one = pytest.mark.skipif(missing is not None, reason=f"{missing}: make setup")

# A child that says where it serves, then does what its life is: `wait` for its end, or `end` at once.
GREETS = 'import json, sys\nprint(json.dumps({"address": sys.argv[1], "key": "k"}), flush=True)\n'
WAITS, ENDS = GREETS + "sys.stdin.read()", GREETS


def connect(address: str, key: str) -> Upstream:
    bearer = {"Authorization": f"Bearer {key}"}
    return Upstream(address, connections=2, headers=dict, now=lambda: 0.0, key=bearer)


@asynccontextmanager
async def child(observer, *command: str):
    model = LocalModel(ROW, lambda: command, connect, observer)
    try:
        yield model
    finally:
        await model.close()


async def answer(model: LocalModel) -> list[Delta]:
    async with asyncio.timeout(PATIENCE), aclosing(model.stream(REQUEST)) as deltas:
        return [delta async for said in deltas for delta in said]


@pytest.fixture
def observed():
    return recording_observer()


@pytest.mark.parametrize("loop", [asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def test_an_answer_waits_until_the_child_is_up(observed, loop):
    observer, recorder = observed

    async def scenario() -> list[Delta]:
        async with (
            provider(Answer(recorded("llama_cpp_stop_with_usage.sse"))) as server,
            child(observer, sys.executable, "-c", WAITS, server.base_url) as model,
        ):
            assert not model.ready
            deltas = await answer(model)
            assert model.ready
            assert server.asked[0].headers["authorization"] == "Bearer k"
            return deltas

    with asyncio.Runner(loop_factory=loop) as runner:
        deltas = runner.run(scenario())
    assert isinstance(deltas[0], Text)
    assert Finish("stop") in deltas
    assert [line["event"] for line in recorder.logs] == ["recovered"]


def test_a_child_that_dies_is_started_again_and_then_given_up(observed, monkeypatch):
    monkeypatch.setattr(local, "_DELAYS", (0.01, 0.01, 0.01))
    observer, recorder = observed

    async def scenario() -> ProviderFailure:
        async with child(observer, sys.executable, "-c", ENDS, "http://127.0.0.1:9") as model:
            async with asyncio.timeout(PATIENCE):
                await asyncio.wait({model._keeper})
            with pytest.raises(ProviderFailure) as failure:
                await answer(model)
            assert model.state == "given_up"
            return failure.value

    failure = asyncio.run(scenario())
    assert (failure.kind, failure.retry_safe) == ("connect", False)
    assert [line["event"] for line in recorder.logs] == ["recovered", "degraded"] * 3


@pytest.mark.parametrize("command", [("/nonexistent",), (sys.executable, "-c", "print('nonsense')")])
def test_a_child_that_cannot_serve_is_given_up(observed, monkeypatch, command):
    monkeypatch.setattr(local, "_DELAYS", (0.01, 0.01))

    async def scenario() -> None:
        async with child(observed[0], *command) as model:
            with pytest.raises(ProviderFailure):
                await answer(model)
            assert model.state == "given_up"

    asyncio.run(scenario())


def test_a_model_that_is_not_installed_is_given_up_at_once(observed):
    observer, recorder = observed

    def not_installed() -> tuple[str, ...]:
        raise RuntimeError("the local model cannot run")

    async def scenario() -> None:
        model = LocalModel(ROW, not_installed, connect, observer)
        with pytest.raises(ProviderFailure) as failure:
            await answer(model)
        assert (failure.value.kind, failure.value.retry_safe) == ("connect", False)
        await model.close()

    asyncio.run(scenario())
    assert [line["event"] for line in recorder.logs] == ["degraded"]


def test_the_child_knows_none_of_our_secrets(observed, monkeypatch, tmp_path: Path):
    monkeypatch.setenv("UPSTREAM_KEY", "secret")
    told = tmp_path / "environment"
    code = f"import os\nopen({str(told)!r}, 'w').write(repr(dict(os.environ)))\n" + WAITS

    async def scenario() -> None:
        async with (
            provider(Answer(recorded("llama_cpp_stop_with_usage.sse"))) as server,
            child(observed[0], sys.executable, "-c", code, server.base_url) as model,
        ):
            await answer(model)

    asyncio.run(scenario())
    assert "PATH" in told.read_text()
    assert "secret" not in told.read_text()


@needs_the_real_one
def test_the_real_child_comes_back_after_it_was_killed(observed):
    command = local.command("smollm2")

    async def scenario() -> None:
        async with child(observed[0], *command) as model:
            assert await answer(model)
            (pid,) = children_of(os.getpid())
            os.kill(pid, signal.SIGKILL)
            async with asyncio.timeout(PATIENCE):
                while model.ready:
                    await asyncio.sleep(0)
            assert await answer(model)

    asyncio.run(scenario())


PARENT = """
import asyncio, sys
from service.providers import local
from telemetry.testing import recording_observer
from tests.contract.test_provider_local import ROW, connect, answer
observer = recording_observer()[0]
command = local.command("smollm2")
async def main():
    model = local.LocalModel(ROW, lambda: command, connect, observer)
    await answer(model)
    print("up", flush=True)
    await asyncio.sleep(60)
asyncio.run(main())
"""


@needs_the_real_one
def test_the_real_child_ends_with_its_parent_even_if_that_is_killed():
    async def scenario() -> None:
        parent = await asyncio.create_subprocess_exec(
            sys.executable, "-c", PARENT, stdout=asyncio.subprocess.PIPE, cwd=Path(__file__).parents[2]
        )
        try:
            async with asyncio.timeout(PATIENCE):
                assert await parent.stdout.readline() == b"up\n"
            (pid,) = children_of(parent.pid)
        finally:
            parent.kill()
            await parent.wait()
        async with asyncio.timeout(PATIENCE):
            while running(pid):
                await asyncio.sleep(0.01)

    asyncio.run(scenario())


def children_of(pid: int) -> list[int]:
    """The local models among a process's children: others may be there too."""
    found = [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    return [child for child in found if "local_child" in Path(f"/proc/{child}/cmdline").read_text()]


def running(pid: int) -> bool:
    """Whether the process is there and no zombie: here nobody may be left to wait for it."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False
