"""The net under all tests catches what it is there for: each kind of leak is planted in a pytest of its own."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support import PATIENCE

ROOT = Path(__file__).parents[2]

BODIES = {
    "task": """
        import asyncio
        def test_it():
            async def main():
                main.kept = asyncio.create_task(asyncio.Event().wait())
            asyncio.run(main())
    """,
    "thread": """
        import threading
        def test_it():
            threading.Thread(target=threading.Event().wait, daemon=True, name="forgotten").start()
    """,
    "process": """
        import subprocess, sys
        def test_it():
            test_it.kept = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    """,
}


def _pytest(tmp_path, body, **environ):
    (tmp_path / "conftest.py").write_text(
        "import tests.conftest as net\nfrom tests.conftest import *\nnet.GRACE = 0.2\n"
    )
    lines = body.splitlines()
    indent = min(len(line) - len(line.lstrip()) for line in lines if line.strip())
    (tmp_path / "test_it.py").write_text("\n".join(line[indent:] for line in lines))
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-c", ROOT / "pyproject.toml", tmp_path],
        cwd=ROOT,
        env={**os.environ, "FOREBAY_REQUIRE_ALL": "0", **environ},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )


@pytest.mark.parametrize("kind", BODIES)
def test_what_a_test_leaves_behind_fails_it(tmp_path, kind):
    result = _pytest(tmp_path, BODIES[kind])
    assert result.returncode == 1, result.stdout
    assert re.search(rf"left behind:\nE +{kind} ", result.stdout), result.stdout


def test_a_blocking_call_below_our_code_in_a_loop_fails(tmp_path):
    body = """
        import asyncio
        import service.settings

        def test_it():
            async def main():
                service.settings.read_secret("", __file__, {})
            asyncio.run(main())
    """
    result = _pytest(tmp_path, body)
    assert result.returncode == 1
    assert "BlockingError: Blocking call to" in result.stdout, result.stdout


SKIPPING = """
    from tests.support import require
    def test_it():
        require("no-such-program", "apt-get install no-such-program")
"""


def test_a_missing_program_skips_with_its_install_line_and_fails_where_all_is_required(tmp_path):
    here = _pytest(tmp_path, SKIPPING)
    assert here.returncode == 0
    assert "no-such-program is not installed: apt-get install no-such-program" in here.stdout
    in_ci = _pytest(tmp_path, SKIPPING, FOREBAY_REQUIRE_ALL="1")
    assert in_ci.returncode == 1
    assert "although FOREBAY_REQUIRE_ALL=1" in in_ci.stdout


def test_skipping_a_whole_file_is_no_way_around(tmp_path):
    body = """
        import pytest
        pytest.skip("not today", allow_module_level=True)
    """
    assert _pytest(tmp_path, body, FOREBAY_REQUIRE_ALL="1").returncode == 2


def test_warnings_are_errors(tmp_path):
    body = """
        import warnings
        def test_it():
            warnings.warn("look")
    """
    assert _pytest(tmp_path, body).returncode == 1
