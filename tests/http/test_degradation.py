"""The table of degradations, row by row: each dependency is broken for real, and the answer is what the table says."""

import asyncio
import contextlib
import os
import signal
import sqlite3
from pathlib import Path

import pytest

from service.chat import degradation
from tests.contract.redis_server import RedisServer, until_answering
from tests.contract.suggestion_server import SuggestionServer
from tests.flow.house import in_house
from tests.flow.tools import Asks
from tests.process import SIMULATED, Service, events
from tests.support import until

QUESTION = "What is case C-1042 about?"
FAST = "sim:ttft_ms=5,interval_ms=1"


def ask(service, model=FAST, **more):
    """Take one turn and return its events."""
    with service.client() as client:
        answer = client.post("/chat/stream", json={"session_id": "s", "message": QUESTION, "model": model, **more})
    assert answer.status_code == 200, answer.text
    return events(answer.text)


def warnings(told):
    return [data["code"] for kind, data in told if kind == "warning"]


@contextlib.contextmanager
def stopped(service, script):
    """Let the children of `service` that run `script` stand still, as in a machine that swaps."""
    children = [int(pid) for file in Path(f"/proc/{service.process.pid}/task").glob("*/children")
                for pid in file.read_text().split()]  # fmt: skip
    found = [pid for pid in children if script in Path(f"/proc/{pid}/cmdline").read_text()]
    assert found
    for pid in found:
        os.kill(pid, signal.SIGSTOP)
    yield
    for pid in found:
        with contextlib.suppress(ProcessLookupError):  # replaced meanwhile
            os.kill(pid, signal.SIGCONT)


def lose_tables(database):
    """Drop every table, as a restored backup of something else would."""
    other = sqlite3.connect(database, isolation_level=None)
    own = other.execute("SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%'").fetchall()
    for (name,) in own:
        with contextlib.suppress(sqlite3.OperationalError):  # one that went with another
            other.execute(f'DROP TABLE "{name}"')
    other.close()


def without_retrieval(folder):
    with Service(folder) as service:
        assert warnings(ask(service)) == []
        lose_tables(folder / "data" / "index.db")
        told = ask(service)
        assert warnings(told) == [degradation.RETRIEVAL.warning]
        assert told[-1][0] == "message_completed"
        required = ask(service, grounding="required")
        assert (required[-1][0], required[-1][1]["code"]) == ("error", "retrieval_failed")
        service.comes_to(1, "forebay_requests_total", outcome="degraded")


def without_suggestions(folder):
    with SuggestionServer() as server:
        config = f'{SIMULATED}\n[suggestions]\nurl = "{server.url}"\ntimeout_ms = 1500\n'
        with Service(folder, config) as service:
            (found,) = [data for kind, data in ask(service) if kind == "retrieval_completed"]
            assert found["suggestions"] == [{"id": "C-7", "title": "Case C-7", "score": 0.5}]
            server.status = 500
            told = ask(service)
            assert warnings(told) == [degradation.SUGGESTIONS.warning]
            assert told[-1][0] == "message_completed"
            assert service.metric("forebay_degradations_total", dependency="suggestions") == 1


def without_reranking(folder):
    with Service(folder, f"[budgets]\nrerank_ms = 1000\n{SIMULATED}") as service:
        with stopped(service, "scoring.py"):
            told = ask(service)
        assert warnings(told) == [degradation.RERANK.warning]
        assert told[-1][0] == "message_completed"
        until(lambda: warnings(ask(service)) == [])


def without_the_model(folder):
    rows = f"""
[[providers]]
name = "upstream"
kind = "openai_compatible"
base_url = "http://127.0.0.1:9/v1"
models = ["large"]
fallback = "simulated"
{SIMULATED}
approved_fallback = true
"""
    with Service(folder, rows) as service:
        told = ask(service, model="large")
        assert warnings(told) == [degradation.MODEL.warning]
        assert told[-1][0] == "message_completed"


def without_a_tool(folder):
    """What checks its arguments stands still: the call is not made, and the answer does without."""
    with Service(folder) as service, stopped(service, "schema_check.py"):
        told = ask(service, model=f"{FAST},tool=case_lookup")
        (completed,) = [data for kind, data in told if kind == "tool_call_completed"]
        assert completed["status"] == "denied"
        assert told[-1][0] == "message_completed"


def without_shared_limits(folder):
    redis = RedisServer(folder)
    redis.start()
    try:
        asyncio.run(until_answering(redis))
        config = f'{SIMULATED}\n[limits]\nbackend = "redis"\nredis_url_env = "REDIS_URL"\n'
        with Service(folder, config, environ={"REDIS_URL": redis.url}) as service:
            assert ask(service)[-1][0] == "message_completed"
            redis.kill()
            until(lambda: service.metric("forebay_degradations_total", dependency="limits") >= 1)
            assert ask(service)[-1][0] == "message_completed"
    finally:
        redis.kill()


def without_a_collector(folder):
    config = f'{SIMULATED}\n[telemetry]\notlp_endpoint = "http://127.0.0.1:9"\n'
    with Service(folder, config) as service:
        told = ask(service)
        assert told[-1][0] == "message_completed"
        assert warnings(told) == []
        until(lambda: service.metric("forebay_telemetry_spans_dropped_total") > 0)


def without_citations(_):
    async def scenario(house):
        house.routes.add("simulated", Asks(answer="It is about a power bank."))
        client = await house.chat(ask={"grounding": "required"})
        assert client.event("error")["code"] == "no_evidence"
        assert (await house.message()).status == "failed"

    in_house(scenario)


def without_a_policy(_):
    async def scenario(house):
        house.policy.becomes(seconds=60.0)
        client = await house.chat()
        assert client.status == 504
        assert not house.model.calls
        assert await house.message() is None

    in_house(scenario)


def without_the_state(folder):
    with Service(folder) as service:
        lose_tables(folder / "data" / "forebay.db")
        with service.client() as client:
            refused = client.post("/chat/stream", json={"session_id": "s", "message": QUESTION, "model": FAST})
        assert (refused.status_code, refused.json()["code"]) == (503, "persist_failed")
        assert service.metric("forebay_provider_requests_total") == 0


BROKEN = {
    degradation.RETRIEVAL: without_retrieval,
    degradation.SUGGESTIONS: without_suggestions,
    degradation.RERANK: without_reranking,
    degradation.MODEL: without_the_model,
    degradation.TOOL: without_a_tool,
    degradation.LIMITS: without_shared_limits,
    degradation.TELEMETRY: without_a_collector,
    degradation.CITATIONS: without_citations,
    degradation.POLICY: without_a_policy,
    degradation.STATE: without_the_state,
}


@pytest.mark.parametrize("row", degradation.TABLE, ids=lambda row: row.dependency)
def test_without_a_dependency_the_answer_is_what_its_row_says(row, tmp_path):
    BROKEN[row](tmp_path)
