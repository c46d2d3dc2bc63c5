"""`forebay call settle`: a person says what became of a call of which nobody knew."""

import sqlite3
from contextlib import closing

import pytest

from service.store.migrate import migrate
from tests.commands import forebay

INSERT = """
INSERT INTO tool_calls (call_id, idempotency_key, message_id, tenant_id, user_id, tool, arguments, arguments_digest,
                        state, instance_id, created_at, updated_at)
VALUES ('call_1', 'k', 'm', 'demo', 'demo', 'act', '{}', '', ?, 'i', 0, 0)
"""


def settled(folder, state, found_out):
    """Settle a call that is in `state`; return the command's result, and the call's state and result afterwards."""
    migrate(f"sqlite:///{folder}/forebay.db")
    with closing(sqlite3.connect(folder / "forebay.db")) as database:
        with database:
            database.execute(INSERT, (state,))
        done = forebay("call", "settle", "call_1", found_out, "--data-dir", folder)
        return done, database.execute("SELECT state, result FROM tool_calls").fetchone()


@pytest.mark.parametrize(("found_out", "becomes"), [("--happened", "completed"), ("--did-not-happen", "failed")])
def test_what_was_indeterminate_becomes_what_a_person_has_found_out(tmp_path, found_out, becomes):
    done, (state, result) = settled(tmp_path, "indeterminate", found_out)
    assert done.returncode == 0, done.stderr
    assert state == becomes
    assert (result is not None) == (becomes == "completed")


@pytest.mark.parametrize("state", ["running", "completed", "denied", "awaiting_approval"])
def test_what_is_known_or_still_runs_is_not_for_a_person_to_settle(tmp_path, state):
    done, after = settled(tmp_path, state, "--happened")
    assert done.returncode == 1
    assert "indeterminate" in done.stderr
    assert after == (state, None)
