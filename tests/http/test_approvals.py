"""Who sees what waits for an approval, who may decide, and in which process it arrives."""

import contextlib
import json
import queue
import threading

import httpx
import pytest

from tests.commands import make_key
from tests.process import END, Service

REFERRAL = "Open an escalation review for case {}."
MODEL = "sim:tool=open_escalation_review,ttft_ms=1,interval_ms=1"


@pytest.fixture(scope="module")
def service(tmp_path_factory):
    with Service(tmp_path_factory.mktemp("approvals")) as running:
        yield running


def key_for(service, tenant, user, *roles):
    """Return the headers of a new key."""
    given = [part for role in roles for part in ("--role", role)]
    key = make_key(service.folder, "--tenant", tenant, "--user", user, *given)
    return {"Authorization": f"Bearer {key}"}


@contextlib.contextmanager
def waiting(service, case, headers=None):
    """A turn whose call waits for an approval: yields the call, and a function that returns how it ended."""
    told = queue.SimpleQueue()

    def ask():
        body = {"session_id": f"s-{case}", "message": REFERRAL.format(case), "model": MODEL}
        with (
            httpx.Client(
                base_url=service.url, headers=headers or service.headers, timeout=END, trust_env=False
            ) as client,
            client.stream("POST", "/chat/stream", json=body) as answer,
        ):
            kind = ""
            for line in answer.iter_lines():
                name, _, value = line.partition(": ")
                kind = value if name == "event" else kind
                if name == "data" and kind.startswith("tool_call"):
                    told.put((kind, json.loads(value)))

    asking = threading.Thread(target=ask)
    asking.start()
    kind, requested = told.get(timeout=END)
    assert (kind, requested["status"]) == ("tool_call_requested", "awaiting_approval")

    def ended():
        while (event := told.get(timeout=END))[0] != "tool_call_completed":
            pass
        return event[1]

    try:
        yield requested, ended
    finally:
        with service.client() as client:  # whatever the test has left undecided
            client.post(f"/tool-calls/{requested['call_id']}/approval", json={"decision": "deny"})
        asking.join(END)


def decide(service, call_id, decision="approve", headers=None, **more):
    with service.client() as client:
        return client.post(
            f"/tool-calls/{call_id}/approval", json={"decision": decision, **more}, headers=headers or service.headers
        )


def pending(service, headers=None):
    with service.client() as client:
        return client.get("/tool-calls?status=awaiting_approval", headers=headers or service.headers)


def test_what_waits_is_shown_with_sanitised_arguments_and_their_digest(service):
    with waiting(service, "C-1017") as (requested, _):
        (call,) = pending(service).json()["tool_calls"]
        assert call["call_id"] == requested["call_id"]
        assert call["arguments"] == requested["arguments"] == {"case_id": "C-1017", "reasons": ["a"]}
        assert len(call["arguments_digest"]) == 64
        assert call["requested_by"] == "demo"
        assert call["expires_at"] - call["created_at"] == pytest.approx(120.0)


def test_an_approval_lets_it_run_and_a_second_decision_is_too_late(service):
    with waiting(service, "C-1017") as (requested, ended):
        (call,) = pending(service).json()["tool_calls"]
        said = decide(service, requested["call_id"], arguments_digest=call["arguments_digest"])
        assert (said.status_code, said.json()["status"]) == (200, "approved")
        assert ended()["status"] == "completed"
        again = decide(service, requested["call_id"], "deny")
        assert (again.status_code, again.json()["code"]) == (409, "conflict")
        assert pending(service).json() == {"tool_calls": []}


def test_a_denial_keeps_it_from_running(service):
    with waiting(service, "C-1029") as (requested, ended):
        assert decide(service, requested["call_id"], "deny").json()["status"] == "denied"
        assert ended()["status"] == "denied"


def test_whoever_looked_at_other_arguments_decides_nothing(service):
    with waiting(service, "C-1029") as (requested, _):
        said = decide(service, requested["call_id"], arguments_digest="0" * 64)
        assert (said.status_code, said.json()["code"]) == (409, "conflict")
        assert len(pending(service).json()["tool_calls"]) == 1


def test_an_analyst_may_ask_and_not_decide(service):
    analyst = key_for(service, "demo", "ann", "analyst")
    with waiting(service, "C-1029", analyst) as (requested, ended):
        assert pending(service, analyst).status_code == 403
        said = decide(service, requested["call_id"], headers=analyst)
        assert (said.status_code, said.json()["code"]) == (403, "forbidden")
        assert decide(service, requested["call_id"], "deny").status_code == 200
        assert ended()["status"] == "denied"


def test_another_tenants_approver_sees_and_finds_nothing(service):
    stranger = key_for(service, "rival", "eve", "approver")
    with waiting(service, "C-1029") as (requested, _):
        assert pending(service, stranger).json() == {"tool_calls": []}
        unknown = decide(service, "call_of_nobody", headers=stranger)
        theirs = decide(service, requested["call_id"], headers=stranger)
        assert unknown.status_code == theirs.status_code == 404
        assert unknown.json()["detail"] == theirs.json()["detail"]


@pytest.mark.parametrize(
    "body",
    [{}, {"decision": "maybe"}, {"decision": "approve", "why": "x"}, {"decision": "approve", "arguments_digest": "a"}],
)
def test_a_decision_that_is_none_is_refused_with_the_field(service, body):
    with service.client() as client:
        answer = client.post("/tool-calls/any/approval", json=body)
    assert answer.status_code == 422
    assert any(field in answer.json()["detail"] for field in ("decision", "why", "arguments_digest"))


def test_a_decision_works_in_whichever_process_it_arrives(service, tmp_path):
    config = (service.folder / "forebay.toml").read_text()
    state = f'[state]\nurl = "sqlite:///{service.folder / "data" / "forebay.db"}"\n'
    with Service(tmp_path, state + config) as other, waiting(service, "C-1051") as (requested, ended):
        assert decide(other, requested["call_id"]).status_code == 200
        assert ended()["status"] == "completed"
