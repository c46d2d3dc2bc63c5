"""A command brings the state database up to date before anything else, and looks at it only once for that."""

import signal
import subprocess
import sys

import pytest

from tests.commands import PATIENCE, forebay
from tests.support import free_port

LOOKS = "looks at the version"
TELLING = f"""
import sys
import service.store
module = sys.modules["service.store.migrate"]
look = module.version_of
def told(url):
    print({LOOKS!r}, flush=True)
    return look(url)
module.version_of = told
from service.cli import main
main(sys.argv[1:])
"""


def looks(folder, *arguments, until=None):
    """How often a command looked at the version; `until` says what it tells once it is up, and is then to be ended."""
    process = subprocess.Popen(
        [sys.executable, "-c", TELLING, *arguments, "--data-dir", str(folder)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    if until:
        assert any(until in line for line in process.stderr), "it did not start"
        process.send_signal(signal.SIGTERM)
    said, wrong = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, wrong
    return said.count(LOOKS)


@pytest.mark.parametrize(
    ("command", "until"),
    [
        (("serve", "--port", "0"), "serves on"),
        (("worker",), "works on jobs"),
        (("migrate",), None),
        (("key", "create", "--tenant", "acme", "--user", "ann", "--role", "analyst"), None),
    ],
    ids=["serve", "worker", "migrate", "key create"],
)
def test_a_command_looks_at_the_schema_s_version_once(tmp_path, command, until):
    assert looks(tmp_path, *command, until=until) == 1


@pytest.mark.parametrize(("password", "error"), [("hidden", "ConnectionRefusedError"), ("hidden/half", "ValueError")])
@pytest.mark.parametrize("command", [("migrate",), ("key", "create", "--tenant", "acme", "--user", "ann")])
def test_a_command_without_its_database_says_so_without_a_traceback_and_without_the_password(command, password, error):
    url = f"postgresql://u:{password}@127.0.0.1:{free_port()}/x?sslmode=disable"
    said = forebay(*command, environ={"FOREBAY_STATE__URL": url})
    assert said.returncode == 1
    assert said.stderr.splitlines()[-1] == f"Error: The state database cannot be opened ({error})"
    assert "hidden" not in said.stderr
