"""What tests of every folder ask for: programs that may be missing, and how often a long proof repeats."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

PROOF = os.environ.get("FOREBAY_PROOF") == "1"

# Where Debian keeps programs that are not on everybody's PATH.
_ELSEWHERE = ("usr/sbin", "usr/lib/postgresql/*/bin")


def require(program: str, install: str) -> str:
    """Return the path of `program`; skip the test with the line that installs it if it is not there.

    With FOREBAY_REQUIRE_ALL=1, as in CI, that skip is a failure (tests/conftest.py).
    """
    folders = [str(folder) for pattern in _ELSEWHERE for folder in sorted(Path("/").glob(pattern), reverse=True)]
    path = shutil.which(program, path=os.pathsep.join([os.environ.get("PATH", ""), *folders]))
    if path is None:
        pytest.skip(f"{program} is not installed: {install}")
    return path


def proof_count(usual: int, full: int) -> int:
    """Return how often to repeat: `usual` on a laptop and in CI, `full` in `make proof` (FOREBAY_PROOF=1)."""
    return full if PROOF else usual
