"""The regulatory case assistant from end to end: the running service, its demo client, and the traces of both."""

import asyncio
import sqlite3

import aiohttp
import pytest

from tests.e2e.support import ROOT, script
from tests.process import KEY, SIMULATED, Service, patience
from tests.support import PATIENCE
from tests.telemetry.otlp_sink import OtlpSink

demo = script(ROOT / "deploy" / "demo" / "case_assistant.py")
PACE = ",ttft_ms=5,interval_ms=2"


class Silent(demo.Screen):
    """A screen that nobody looks at."""

    def _write(self, text):
        pass


@pytest.fixture(scope="module")
def assistant(tmp_path_factory):
    with OtlpSink() as sink:
        config = f'{SIMULATED}\n[telemetry]\notlp_endpoint = "{sink.url}"\n'
        with Service(tmp_path_factory.mktemp("assistant"), config) as service:
            service.sink = sink
            yield service


def act(service, play):
    """Play one act as a user of its own; return what it returns."""

    async def main():
        headers = {"Authorization": f"Bearer {KEY}"}
        async with aiohttp.ClientSession(headers=headers, timeout=aiohttp.ClientTimeout(total=PATIENCE)) as http:
            return await play(demo.User(http, service.url, Silent()))

    return asyncio.run(main())


def types(events):
    kinds = [kind for kind, _ in events]
    return [kind for i, kind in enumerate(kinds) if i == 0 or kind != "token_delta" or kinds[i - 1] != kind]


def one(events, kind):
    (found,) = [data for this, data in events if this == kind]
    return found


def reviews(service):
    """Count the reviews in the register, as its database has it."""
    database = sqlite3.connect(service.folder / "data" / "forebay.db")
    with database:
        found = database.execute("SELECT case_id FROM escalation_reviews").fetchall()
    database.close()
    return [case_id for (case_id,) in found]


def test_the_summary_runs_as_it_is_described(assistant):
    events = act(assistant, lambda user: demo.summary(user, PACE))
    assert types(events) == [
        "message_start",
        "retrieval_completed",
        "token_delta",
        "tool_call_requested",
        "tool_call_started",
        "tool_call_completed",
        "token_delta",
        "message_completed",
    ]
    assert {"C-1042-summary", "ESC-1"} <= {
        document["id"] for document in one(events, "retrieval_completed")["documents"]
    }
    assert one(events, "tool_call_requested")["tool"] == "policy_lookup"
    assert one(events, "tool_call_completed")["status"] == "completed"
    assert {"C-1042-summary", "ESC-1"} <= set(one(events, "message_completed")["citations"])
    trace = assistant.sink.trace(one(events, "message_start")["trace_id"])
    outcomes = {span["name"]: span["attributes"].get("forebay.outcome") for span in trace}
    for phase in ("input.validation", "policy.check", "context.load", "retrieval.query", "rerank", "model.stream",
                  "tool.call", "finalize", "state.persist", "stream.emit"):  # fmt: skip
        assert outcomes[phase] == "ok", phase


def test_a_review_is_opened_once_it_was_approved(assistant):
    events = act(assistant, lambda user: demo.review(user, PACE, "C-1042"))
    assert one(events, "tool_call_requested")["status"] == "awaiting_approval"
    assert one(events, "tool_call_completed")["status"] == "completed"
    assert events[-1][0] == "message_completed"
    assert reviews(assistant) == ["C-1042"]


def test_a_client_that_leaves_while_a_review_waits_has_opened_none(assistant):
    before = reviews(assistant)
    told = act(assistant, lambda user: demo.departure(user, PACE, "C-1051"))
    assert told == {"message": "cancelled", "call": "denied", "late": 409}
    assert reviews(assistant) == before


def test_a_client_that_leaves_in_the_middle_of_the_answer_leaves_nothing_running(assistant):
    before = reviews(assistant)

    async def leave(user):
        started = None
        asked = user.ask(demo.SUMMARY, "sim:tool=open_escalation_review,ttft_ms=5,interval_ms=200")
        async for kind, data in asked:
            started = data if kind == "message_start" else started
            if kind == "token_delta":
                break
        await asked.aclose()
        return started, await user.settled()

    started, last = act(assistant, leave)
    assert (last["message_id"], last["status"], last["tool_calls"]) == (started["message_id"], "cancelled", [])
    assert reviews(assistant) == before
    trace = {span["name"]: span["attributes"] for span in assistant.sink.trace(started["trace_id"])}
    server = next(facts for facts in trace.values() if "forebay.request.outcome" in facts)
    assert server["forebay.request.outcome"] == "cancelled"
    assert server["forebay.request.cause"] == "client_disconnect"
    assert trace["model.stream"]["forebay.outcome"] == "cancelled"
    assert trace["chat sim"]["forebay.outcome"] == "cancelled", "the model's stream was closed"
    assert "tool.call" not in trace
    assistant.comes_to(0, "forebay_concurrency_in_use")


def test_the_demo_plays_by_itself(capfd, monkeypatch):
    for name, value in patience("").items():  # its service is one of its own
        monkeypatch.setenv(name, value)

    async def play():
        async with asyncio.timeout(4 * PATIENCE), demo.service() as (url, key):
            await demo.play(url, key, PACE)

    asyncio.run(play())
    shown = capfd.readouterr().out
    assert shown.count("message_completed") == 2
    assert "nothing was escalated" in shown
