"""What lies at the top of the project, and what the lock files may say."""

from __future__ import annotations

import re
import tomllib
from fnmatch import fnmatch

import pytest

from tests.architecture.source import ROOT

TOP = {
    ".ci",
    ".git",
    ".gitignore",
    "ARCHITECTURE.md",
    "CHANGELOG.md",
    "LICENSE",
    "Makefile",
    "README.md",
    "dashboards",
    "deploy",
    "docker-compose.yml",
    "pyproject.toml",
    "requirements*.lock",
    "service",
    "telemetry",
    "tests",
}
LOCKS = sorted(ROOT.glob("requirements*.lock"))


def test_nothing_lies_at_the_top_that_does_not_belong_there():
    ignored = [line.rstrip("/") for line in (ROOT / ".gitignore").read_text().splitlines() if line]
    known = [*TOP, *ignored]
    entries = [path.name for path in ROOT.iterdir()]
    assert not [name for name in entries if not any(fnmatch(name, pattern) for pattern in known)]


def _pins(text):
    """Return each requirement of a lock file, with what continues it."""
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    return "\n".join(lines).replace("\\\n", " ").splitlines()


@pytest.mark.parametrize("lock", LOCKS, ids=lambda path: path.name)
def test_every_pin_of_a_lock_file_has_a_version_and_hashes(lock):
    pins = _pins(lock.read_text())
    assert pins
    assert not [pin for pin in pins if not re.match(r"[A-Za-z0-9._-]+==\S+.* --hash=sha256:[0-9a-f]{64}", pin)]


@pytest.mark.parametrize("lock", LOCKS, ids=lambda path: path.name)
def test_a_lock_file_names_no_address(lock):
    assert not re.findall(r".*(?:://| @ |--index-url|--find-links|--extra-index-url).*", lock.read_text())


def test_whatever_the_project_needs_is_locked():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    locks = {
        "requirements.lock": project["project"]["dependencies"],
        "requirements-dev.lock": project["dependency-groups"]["dev"],
    }
    for lock, wanted in locks.items():
        pinned = {_name(pin) for pin in _pins((ROOT / lock).read_text())}
        assert not {_name(need) for need in wanted} - pinned, lock


def _name(requirement):
    return re.match(r"[A-Za-z0-9._-]+", requirement)[0].lower().replace("_", "-").replace(".", "-")
