"""`forebay` as a program: what it prints, and how it ends."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

PATIENCE = 120.0  # seconds


def forebay(*arguments: str | Path, environ: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """Run a command to its end."""
    return subprocess.run(
        [sys.executable, "-m", "service", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        env={**os.environ, "NO_PROXY": "127.0.0.1", **(environ or {})},
        check=False,
    )


def make_key(folder: Path, *arguments: str, environ: dict[str, str] | None = None) -> str:
    """A new key for the service whose folder it is (`tests.process.Service`)."""
    where = ("--config", folder / "forebay.toml", "--data-dir", folder / "data")
    said = forebay("key", "create", *where, *arguments, environ=environ)
    assert said.returncode == 0, said.stderr
    return said.stdout.splitlines()[-1]
