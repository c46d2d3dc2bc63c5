"""OpenAI's own client for Node against the running service: another one that nobody here wrote."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.http.upstream import MODELS, ODD, Upstream, config
from tests.process import KEY, Service
from tests.support import require

HERE = Path(__file__).parent / "node"
INSTALL = "apt-get install nodejs npm"
PATIENCE = 120.0  # seconds: npm asks the registry once, and keeps what it got


@pytest.fixture(scope="module")
def sdk(request):
    """The folder of the script with the client beside it, installed once for each lock file."""
    require("node", INSTALL)
    npm = require("npm", INSTALL)
    lock = (HERE / "package-lock.json").read_bytes()
    folder = Path(request.config.cache.mkdir(f"openai-node-{hashlib.sha256(lock).hexdigest()[:12]}"))
    if not (folder / "installed").exists():
        for name in ("package.json", "package-lock.json"):
            shutil.copy(HERE / name, folder)
        command = [npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund"]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=PATIENCE, check=False)
        if done.returncode:
            pytest.skip(f"npm cannot install OpenAI's client: {done.stderr[-300:]}")
        (folder / "installed").touch()
    shutil.copy(HERE / "completions.mjs", folder)
    return folder


@pytest.fixture(scope="module")
def upstream():
    with Upstream() as running:
        yield running


@pytest.fixture(scope="module")
def service(tmp_path_factory, upstream):
    with Service(tmp_path_factory.mktemp("node"), config(upstream), environ={"UPSTREAM_KEY": "k"}) as running:
        yield running


@pytest.fixture
def node(sdk, service, upstream):
    """Runs one scenario of the script and returns its findings."""
    upstream.forget()

    def run(scenario, when=lambda: None):
        """`when` returns once the script's input is to be closed."""
        command = ["node", "completions.mjs", f"{service.url}/v1", KEY, scenario]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        with subprocess.Popen(command, cwd=sdk, text=True, **pipes) as script:
            when()
            said, complaints = script.communicate(timeout=PATIENCE)
        assert script.returncode == 0, complaints
        return json.loads(said.splitlines()[-1])

    return run


def test_a_completion_in_one_piece(node):
    answer = node("whole")
    assert answer["message"]["content"] == "one two three "
    assert (answer["finish_reason"], answer["model"], answer["usage"]["total_tokens"]) == ("stop", "echo", 16)


def test_a_completion_as_a_stream(node):
    answer = node("streamed")
    assert answer["deltas"] == ["", "one ", "two ", "three ", None]
    assert answer["usage"]["total_tokens"] == 16


def test_the_client_s_stream_helper_puts_the_answer_together(node):
    assert node("helper") == {"said": "one two three ", "final": "one two three "}


def test_tools_are_the_client_s_own(node, upstream):
    answer = node("tools")
    assert answer["reason"] == "tool_calls"
    assert [call["function"]["name"] for call in answer["calls"]] == ["weather", "time"]
    assert upstream.next().body["tools"][0]["function"]["name"] == "weather"


def test_the_models_are_listed_exactly_as_they_are_configured(node):
    assert node("models") == [*MODELS, ODD, "sim"]


def test_leaving_a_stream_early_closes_the_provider_s(node, upstream):
    assert node("leaving") == "left"
    upstream.next().wait_until_left()


def test_aborting_an_answer_in_one_piece_closes_the_provider_s(node, upstream):
    asked = []
    assert node("aborting", lambda: asked.append(upstream.next()))["kind"] == "APIUserAbortError"
    asked[0].wait_until_left()


def test_errors_are_of_the_classes_that_the_client_has_for_them(node):
    errors = node("errors")
    assert {name: (error["kind"], error["status"], error["code"]) for name, error in errors.items()} == {
        "key": ("AuthenticationError", 401, "unauthenticated"),
        "model": ("NotFoundError", 404, "not_found"),
        "several": ("BadRequestError", 400, "invalid_request"),
        "role": ("UnprocessableEntityError", 422, "invalid_request"),
        "down": ("InternalServerError", 502, "provider_error"),
        "stream": ("APIError", None, "provider_error"),
    }
