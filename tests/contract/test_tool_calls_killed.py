"""However a process ends, a side effect happened at most once for its key, and exactly once where the call says so."""

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from service.store.migrate import migrate
from tests.support import PATIENCE, proof_count

ROOT = Path(__file__).parents[2]
TURNS = proof_count(50, 1000)
LONG = PATIENCE + 5 * TURNS  # seconds: a busy machine takes its time


@pytest.fixture(params=["sqlite", "postgres"])
def url(request, tmp_path):
    if request.param == "postgres":
        with request.getfixturevalue("cluster").migrated_database() as postgres:
            yield postgres
    else:
        migrate(f"sqlite:///{tmp_path}/state.db")
        yield f"sqlite:///{tmp_path}/state.db"


def test_killed_or_left_at_any_moment_and_tried_again_a_side_effect_happens_at_most_once(url, tmp_path):
    turns = killed(url, tmp_path / "effects")
    assert len(turns) >= TURNS
    for turn in turns:
        for step in ("left", "again", "once_more"):
            holds(turn, turn.get(step))
        assert turn["again"]["messages"] == ["completed", "completed"], turn
        assert turn["again"]["calls"] == turn["once_more"]["calls"], turn
    ends = Counter(status for turn in turns if turn.get("killed") for status in turn["again"]["calls"])
    assert ends["completed"] > 0, "some were killed before or after"
    assert ends["indeterminate"] > 0, "some were killed in between"


def holds(turn, found):
    """At most one effect; exactly one where the call is completed, none where it is denied or was never claimed."""
    if found is None:
        return
    calls, effects = found["calls"], found["effects"]
    assert len(calls) <= 1, turn
    if calls == ["completed"]:
        assert effects == 1, turn
    elif calls == ["indeterminate"]:
        assert effects <= 1, turn
    else:
        assert effects == 0, turn


def killed(url, effects):
    """Return what became of each turn."""
    command = [sys.executable, "-m", "tests.contract.killing", url, str(effects), str(TURNS), "1"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=LONG, check=False)
    assert done.returncode == 0, done.stderr[-4_000:]
    return [json.loads(line) for line in done.stdout.splitlines()]
