"""Tools without code here: real MCP servers in the settings, as a child and over HTTP, with a service before them."""

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.process import SIMULATED, Service, events
from tests.support import until

SERVER = str(Path(__file__).parent.parent / "contract" / "mcp_server.py")
TOOLS = ["read_file", "fails", "hangs", "stands_still", "dies", "wild"]
SECRET = "/home/ann/the-witness.txt"


class Remote:
    """An MCP server over HTTP: a process of its own, on the same port each time that it is started."""

    def __init__(self, **environ):
        self.port, self._environ = 0, {**os.environ, **environ}
        self.start()

    def start(self):
        command = [sys.executable, SERVER, "http", str(self.port)]
        self.process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=self._environ
        )
        self.port = int(self.process.stdout.readline())

    def kill(self):
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()

    def settings(self):
        return f'url = "http://127.0.0.1:{self.port}/mcp"'


class Child:
    """An MCP server that the service starts, and starts again, by itself."""

    def start(self):
        pass

    def kill(self):
        pass

    def settings(self):
        return f"command = {json.dumps([sys.executable, SERVER, 'stdio'])}"


def row(server, name="files", tools=TOOLS, **more):
    settings = "".join(f"{key} = {json.dumps(value)}\n" for key, value in more.items())
    return f'[[mcp]]\nname = "{name}"\n{server.settings()}\ntools = {json.dumps(tools)}\n{settings}'


LIMITS = "[tools.hangs]\ntimeout_ms = 800\n[tools.stands_still]\ntimeout_ms = 800\n"


@pytest.fixture(params=[Child, Remote], ids=["child", "http"])
def server(request):
    made = request.param()
    yield made
    made.kill()


def state(service, name="files"):
    with service.client() as client:
        return client.get("/readyz").json()["dependencies"][f"mcp:{name}"]


def call(service, tool):
    """Let a model call `tool`; return how the call ended, and the whole answer."""
    with service.client() as client:
        body = {"session_id": "s", "message": f"Read {SECRET}.", "model": f"sim:tool={tool},ttft_ms=1,interval_ms=1"}
        answer = client.post("/chat/stream", json=body)
    told = events(answer.text)
    assert told[-1][0] == "message_completed", told[-1]
    (completed,) = [data for kind, data in told if kind == "tool_call_completed"]
    return completed, "".join(data["text"] for kind, data in told if kind == "token_delta")


def outcome(service, tool):
    completed, _ = call(service, tool)
    return completed["status"], completed["error_code"]


def children(process):
    """Return the ids of a process's children."""
    found = Path(f"/proc/{process.pid}/task").glob("*/children")
    with contextlib.suppress(FileNotFoundError):
        return [int(pid) for file in found for pid in file.read_text().split()]
    return []


def servers_of(service):
    return [pid for pid in children(service.process) if SERVER.encode() in Path(f"/proc/{pid}/cmdline").read_bytes()]


def is_alive(pid):
    with contextlib.suppress(FileNotFoundError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False


def test_a_server_s_tools_are_called_fail_hang_and_die_at_their_own_cost_and_recover(server, tmp_path):
    with Service(tmp_path, SIMULATED + row(server, read_only=True) + LIMITS) as service:
        until(lambda: state(service) == "ready")
        completed, answer = call(service, "read_file")
        assert completed["status"] == "completed"
        assert "contents of" in answer
        assert outcome(service, "fails") == ("failed", "tool_failed")
        assert outcome(service, "hangs") == ("timed_out", "timeout")
        assert outcome(service, "read_file") == ("completed", None)
        assert outcome(service, "dies") == ("failed", "tool_failed")
        server.kill()
        server.start()
        until(lambda: state(service) == "ready" and outcome(service, "read_file") == ("completed", None))
        service.comes_to(1, "forebay_tool_calls_total", tool="hangs", outcome="timed_out")
        assert service.metric("forebay_degradations_total", dependency="tool") >= 1
        service.comes_to(0, "forebay_concurrency_in_use")
        assert until(lambda: service.lines("recovered"))[0]["server"] == "files"
        everything = json.dumps(service.log) + "".join(service.greeting)
        assert "the-witness" not in everything
        assert service.stop() == 0


def test_a_server_that_stands_still_is_left_and_connected_to_again(server, tmp_path):
    with Service(tmp_path, SIMULATED + row(server, read_only=True) + LIMITS) as service:
        until(lambda: state(service) == "ready")
        assert outcome(service, "stands_still") == ("timed_out", "timeout")
        until(lambda: service.lines("degraded"))
        server.kill()
        server.start()
        until(lambda: outcome(service, "read_file") == ("completed", None))


def test_what_is_not_allowed_or_not_taken_on_is_not_called(tmp_path):
    with Service(tmp_path, SIMULATED + row(Child(), read_only=True)) as service:
        until(lambda: state(service) == "ready")
        assert outcome(service, "delete_file") == ("denied", "not_found")
        assert outcome(service, "wild") == ("denied", "not_found")
        service.comes_to(2, "forebay_tool_calls_total", tool="mcp:files", outcome="denied")
        (line,) = until(lambda: service.lines("degraded"))
        assert (line["tool"], line["reason"][:10]) == ("wild", "its schema")


def test_a_service_starts_and_answers_without_its_servers(tmp_path):
    absent = '[[mcp]]\nname = "{}"\ntools = ["{}"]\nread_only = true\n{}\n'
    program = absent.format("gone", "one", 'command = "no-such-program"')
    place = absent.format("far", "two", 'url = "http://127.0.0.1:9/mcp"')
    with Service(tmp_path, SIMULATED + program + place) as service:
        until(lambda: (state(service, "gone"), state(service, "far")) == ("failed", "failed"))
        assert outcome(service, "one") == outcome(service, "two") == ("denied", "not_found")
        assert outcome(service, "policy_lookup") == ("completed", None)
        with service.client() as client:
            assert client.get("/readyz").json()["status"] == "degraded"


def test_what_may_change_something_waits_for_an_approval_and_is_never_guessed_at(tmp_path):
    config = SIMULATED + row(Child(), tools=["read_file", "dies"], shows=["path"])
    with Service(tmp_path, config) as service:
        until(lambda: state(service) == "ready")
        assert approved(service, "read_file") == ("completed", None)
        assert approved(service, "dies") == ("indeterminate", "internal")
        service.comes_to(1, "forebay_tool_calls_total", tool="dies", outcome="indeterminate")


def approved(service, tool):
    """Let a model call `tool`, approve what it asks for as soon as it waits, and return how it ended."""
    body = {"session_id": "s", "message": f"Read {SECRET}.", "model": f"sim:tool={tool},ttft_ms=1,interval_ms=1"}
    with service.client() as client, client.stream("POST", "/chat/stream", json=body) as stream:
        kind = ""
        for line in stream.iter_lines():
            name, _, value = line.partition(": ")
            kind = value if name == "event" else kind
            if name != "data" or not kind.startswith("tool_call"):
                continue
            data = json.loads(value)
            if kind == "tool_call_requested":
                assert (data["status"], list(data["arguments"])) == ("awaiting_approval", ["path"])
                assert data["arguments"]["path"] != "[hidden]"
                with service.client() as approver:
                    approver.post(f"/tool-calls/{data['call_id']}/approval", json={"decision": "approve"})
            if kind == "tool_call_completed":
                return data["status"], data["error_code"]
    raise AssertionError("the call did not end")


@pytest.mark.parametrize("sig", [signal.SIGTERM, signal.SIGKILL])
def test_a_server_that_is_a_child_ends_with_the_service(sig, tmp_path):
    with Service(tmp_path, SIMULATED + row(Child(), read_only=True)) as service:
        until(lambda: state(service) == "ready")
        (child,) = servers_of(service)
        os.kill(child, signal.SIGSTOP)  # it could not end by itself
        service.stop(sig)
        until(lambda: not is_alive(child))


def test_a_child_that_was_killed_is_started_again(tmp_path):
    with Service(tmp_path, SIMULATED + row(Child(), read_only=True)) as service:
        until(lambda: state(service) == "ready")
        _, before = call(service, "read_file")
        os.kill(*servers_of(service), signal.SIGKILL)
        until(lambda: outcome(service, "read_file") == ("completed", None))
        _, after = call(service, "read_file")
        assert re.search(r"process (\d+)", before)[1] != re.search(r"process (\d+)", after)[1]


def test_a_server_over_http_is_given_the_key_that_its_row_points_to(tmp_path):
    guarded = Remote(FILES_KEY="s3cret")
    try:
        config = SIMULATED + row(guarded, read_only=True, api_key_env="OUR_KEY")
        with Service(tmp_path, config, environ={"OUR_KEY": "s3cret"}) as service:
            until(lambda: state(service) == "ready")
            assert outcome(service, "read_file") == ("completed", None)
            assert "s3cret" not in json.dumps(service.log)
    finally:
        guarded.kill()


@pytest.mark.parametrize(("handed", "has"), [({"environment": ["FILES_KEY"]}, "with"), ({}, "without")])
def test_a_server_that_is_a_child_gets_the_variables_that_its_row_names_and_no_other(tmp_path, handed, has):
    config = SIMULATED + row(Child(), read_only=True, **handed)
    with Service(tmp_path, config, environ={"FILES_KEY": "s3cret"}) as service:
        until(lambda: state(service) == "ready")
        _, answer = call(service, "read_file")
        assert f"{has} a key" in answer
