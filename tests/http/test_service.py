"""The service over real sockets, as its users meet it: a stream, a cancellation, a disconnect, a crash, a drain."""

import json

import httpx
import pytest

from tests.process import KEY, Service, events
from tests.support import until


@pytest.fixture(scope="module")
def service(tmp_path_factory):
    with Service(tmp_path_factory.mktemp("service")) as running:
        yield running


def ask(message="What is case C-1042 about?", **more):
    return {"session_id": "s1", "message": message, "model": "sim:tokens=20,interval_ms=1,ttft_ms=5", **more}


def test_a_first_start_makes_all_that_it_needs(tmp_path):
    with Service(tmp_path, fresh=True) as first, first.client() as client:
        assert events(client.post("/chat/stream", json=ask()).text)[-1][0] == "message_completed"
    assert {path.name for path in (tmp_path / "data").iterdir()} >= {"forebay.db", "index.db"}


def test_a_turn_streams_over_http(service):
    with service.client() as client:
        answer = client.post("/chat/stream", json=ask())
    assert answer.headers["content-type"].startswith("text/event-stream")
    kinds = [kind for kind, _ in events(answer.text)]
    assert kinds[0] == "message_start"
    assert kinds[-1] == "message_completed"
    assert kinds.count("token_delta") == 20


def test_every_response_carries_the_trace_id(service):
    with service.client() as client:
        answer = client.post("/chat/stream", json=ask())
        refused = client.post("/chat/stream", json={})
    assert answer.headers["x-request-id"] == events(answer.text)[0][1]["trace_id"]
    assert refused.headers["x-request-id"] == refused.json()["trace_id"]


def test_a_cancellation_from_another_connection_ends_the_stream_with_an_error(service):
    with service.client() as client, client.stream("POST", "/chat/stream", json=ask(model="sim:stall_at=2")) as stream:
        lines = stream.iter_lines()
        start = next(json.loads(line[6:]) for line in lines if line.startswith("data: "))
        with service.client() as other:
            assert other.post(f"/messages/{start['message_id']}/cancel").status_code == 202
        rest = list(lines)
    assert "event: error" in rest
    error = json.loads(rest[rest.index("event: error") + 1][6:])
    assert (error["code"], error["trace_id"]) == ("cancelled", start["trace_id"])


def test_somebody_elses_answer_cannot_be_cancelled_nor_seen(service):
    with httpx.Client(base_url=service.url, trust_env=False, headers={"Authorization": f"Bearer {KEY}"}) as client:
        assert client.post("/messages/msg_unknown/cancel").status_code == 404
        assert client.get("/sessions/unknown/messages").status_code == 404


@pytest.mark.parametrize("model", ["sim:ttft_ms=60000", "sim:stall_at=3"])
def test_a_disconnect_is_noticed_before_the_first_token_and_after_it(service, model):
    before = service.metric("forebay_cancellations_total", cause="client_disconnect")
    with service.client() as client, client.stream("POST", "/chat/stream", json=ask(model=model)) as stream:
        next(stream.iter_lines())
    until(lambda: service.metric("forebay_cancellations_total", cause="client_disconnect") == before + 1)
    service.comes_to(0, "forebay_concurrency_in_use")
    service.comes_to(0, "forebay_requests_in_flight")


def test_a_wrong_key_is_refused_with_a_problem(service):
    wrong = {"Authorization": "Bearer no"}
    answer = httpx.post(f"{service.url}/chat/stream", json=ask(), headers=wrong, trust_env=False)
    assert answer.status_code == 401
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["code"] == "unauthenticated"


def test_a_body_over_the_limit_is_refused_with_413(service):
    with service.client() as client:
        answer = client.post("/chat/stream", content=b"x" * 10_000_000, headers={"Content-Type": "application/json"})
    assert answer.status_code == 413
    assert answer.json()["code"] == "too_large"


def test_an_unknown_route_is_a_problem_too(service):
    with service.client() as client:
        answer = client.get("/nothing")
    assert (answer.status_code, answer.json()["code"]) == (404, "not_found")


def test_after_a_crash_what_was_streaming_is_interrupted(tmp_path):
    with (
        Service(tmp_path) as first,
        first.client() as client,
        client.stream("POST", "/chat/stream", json=ask(model="sim:stall_at=3")) as stream,
    ):
        lines = stream.iter_lines()
        next(line for line in lines if line == "event: token_delta")
        first.kill()
    with Service(tmp_path) as second, second.client() as client:
        messages = client.get("/sessions/s1/messages").json()["messages"]
    assert [message["status"] for message in messages] == ["completed", "interrupted"]


def test_sigterm_tells_every_open_stream_and_ends_with_0(tmp_path):
    config = "[server]\ndrain_seconds = 0.2\n[[providers]]\nname = 's'\nkind = 'simulated'\nmodels = ['sim']\n"
    with Service(tmp_path, config) as running:
        with (
            running.client() as client,
            client.stream("POST", "/chat/stream", json=ask(model="sim:stall_at=1")) as stream,
        ):
            lines = stream.iter_lines()
            next(line for line in lines if line == "event: token_delta")
            running.process.terminate()
            rest = list(lines)
        assert json.loads(rest[rest.index("event: error") + 1][6:])["code"] == "shutting_down"
        assert running.stop() == 0
