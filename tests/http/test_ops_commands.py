"""What `forebay doctor` finds, and how a start ends that cannot work: one clear line, never a traceback."""

import socket
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread

import pytest
from click.testing import CliRunner

from service.cli import main
from tests.commands import forebay as program
from tests.support import free_port


class Upstream(BaseHTTPRequestHandler):
    """A provider that knows one key, and a collector that takes anything."""

    def do_GET(self):
        self.send_response(200 if self.headers["Authorization"] == "Bearer right" else 401)
        self.end_headers()

    def do_POST(self):
        self.send_response(200 if self.path == "/v1/traces" else 404)
        self.end_headers()

    def log_message(self, *_):
        pass


@pytest.fixture
def upstream():
    server = HTTPServer(("127.0.0.1", 0), Upstream)
    thread = Thread(target=server.serve_forever)
    thread.start()
    yield server.server_port
    server.shutdown()
    thread.join()
    server.server_close()


def written(folder, text):
    path = folder / "forebay.toml"
    path.write_text(text)
    return path


def provider(port):
    return f"""
[telemetry]
otlp_endpoint = "http://127.0.0.1:{port}"
[[providers]]
name = "upstream"
kind = "openai_compatible"
base_url = "http://127.0.0.1:{port}/v1"
api_key_env = "UPSTREAM_KEY"
models = ["small"]
"""


def forebay(*arguments, **environ):
    return CliRunner().invoke(main, [str(argument) for argument in arguments], env=environ)


def examine(folder, text, **environ):
    return forebay("doctor", "--config", written(folder, text), "--data-dir", folder / "data", **environ)


def test_a_doctor_who_finds_nothing_ends_with_0(tmp_path, upstream):
    said = examine(tmp_path, provider(upstream), UPSTREAM_KEY="right")
    assert said.exit_code == 0, said.stdout
    lines = said.stdout.splitlines()
    assert all(line.startswith("ok ") for line in lines)
    for what in (
        "settings",
        "data folder",
        "state database",
        "index",
        "policies",
        "provider upstream",
        "OTLP collector",
    ):
        assert any(f" {what}: " in line for line in lines), what
    assert not (tmp_path / "data").exists(), "looking makes nothing"


def test_a_key_that_is_refused_is_told_without_showing_it(tmp_path, upstream):
    said = examine(tmp_path, provider(upstream), UPSTREAM_KEY="wrong-key")
    assert said.exit_code == 1
    assert f"failed  provider upstream: 127.0.0.1:{upstream} refuses the key (401)\n        → " in said.stdout
    assert "wrong-key" not in said.stdout


def test_who_does_not_answer_is_named_with_what_to_do(tmp_path):
    said = examine(tmp_path, provider(free_port()))
    assert said.exit_code == 1
    assert "failed  provider upstream: " in said.stdout
    assert "failed  OTLP collector: " in said.stdout
    assert said.stdout.count("→ look at ") == 2


def test_redis_and_the_state_database_are_asked_and_no_password_is_shown(tmp_path):
    nowhere = free_port()
    config = written(tmp_path, '[limits]\nbackend = "redis"\nredis_url_env = "REDIS"\n')
    environ = {
        "REDIS": f"redis://:hidden@127.0.0.1:{nowhere}",
        "FOREBAY_STATE__URL": f"postgresql://u:hidden@127.0.0.1:{nowhere}/x",
        "FOREBAY_TELEMETRY__OTLP_ENDPOINT": f"http://u:hidden@127.0.0.1:{nowhere}",
    }
    said = program("doctor", "--config", config, environ=environ)
    assert said.returncode == 1
    assert "failed  state database: cannot be read (ConnectionRefusedError)" in said.stdout
    assert "failed  Redis: does not answer (ConnectionError)" in said.stdout
    assert f"failed  OTLP collector: 127.0.0.1:{nowhere} cannot be reached" in said.stdout
    assert "hidden" not in said.stdout


def test_an_index_that_is_damaged_is_found(tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "index.db").write_bytes(b"this is no database" * 100)
    said = examine(tmp_path, "")
    assert said.exit_code == 1
    assert "failed  index: " in said.stdout


def refused(*arguments, **environ):
    said = forebay("serve", "--port", "0", *arguments, **environ)
    assert said.exit_code == 1
    assert isinstance(said.exception, SystemExit), "a traceback"
    assert said.stdout == ""
    (line,) = said.stderr.splitlines()
    return line


def test_a_port_that_is_taken_is_told(tmp_path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        line = refused("--data-dir", tmp_path / "data", "--port", port)
    assert line.startswith(f"Error: Cannot listen on 127.0.0.1, port {port}: Address already in use.")


def test_settings_that_cannot_be_read_are_told():
    assert refused("--config", "/proc/self/mem") == "Error: /proc/self/mem: Input/output error"


def test_a_file_of_settings_that_is_not_there_is_told(tmp_path):
    assert refused("--config", tmp_path / "none.toml").endswith("none.toml: no such file")


def test_a_policy_that_does_not_parse_is_told_with_its_file(tmp_path):
    (tmp_path / "broken.cedar").write_text("permit(principal, action, resourc")
    line = refused("--data-dir", tmp_path / "data", FOREBAY_POLICY__PATH=str(tmp_path))
    assert f"{tmp_path}/broken.cedar: " in line


def test_a_data_folder_that_cannot_be_written_is_told(tmp_path):
    (tmp_path / "file").touch()
    line = refused("--data-dir", tmp_path / "file" / "data")
    assert line.startswith(f"Error: {tmp_path}/file/data cannot be written to: choose another with --data-dir")


def test_a_state_database_that_is_not_there_is_told():
    environ = {"FOREBAY_STATE__URL": f"postgresql://u:hidden@127.0.0.1:{free_port()}/x"}
    said = program("serve", "--port", "0", environ=environ)
    assert said.returncode == 1
    assert said.stderr.startswith("Error: the state database cannot be opened (ConnectionRefusedError): look ")
    assert len(said.stderr.splitlines()) == 1
    assert "hidden" not in said.stderr
