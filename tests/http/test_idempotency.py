"""Idempotency-Key over real sockets, on both doors, across a crash of the service."""

import pytest

from tests.process import Service, events

KEY = {"Idempotency-Key": "order-7"}
BODY = {"session_id": "s1", "message": "What is case C-1042 about?", "model": "sim:tokens=12,interval_ms=1"}


@pytest.fixture(scope="module")
def service(tmp_path_factory):
    with Service(tmp_path_factory.mktemp("idempotency")) as running:
        yield running


def test_a_turn_is_told_again_by_the_process_after_a_crash(tmp_path):
    with Service(tmp_path) as first:
        with first.client() as client:
            told = client.post("/chat/stream", json=BODY, headers=KEY)
        first.kill()
    with Service(tmp_path) as second, second.client() as client:
        again = client.post("/chat/stream", json=BODY, headers=KEY)
        assert second.metric("forebay_generated_tokens_total") == 0
    assert again.headers["idempotent-replayed"] == "true"
    (kind, start), *_ = events(again.text)
    assert (kind, start["message_id"]) == ("message_start", events(told.text)[0][1]["message_id"])
    texts = ["".join(data["text"] for kind, data in events(t.text) if kind == "token_delta") for t in (told, again)]
    assert texts[0] == texts[1]
    assert [kind for kind, _ in events(again.text)] == [
        "message_start", "retrieval_completed", "token_delta", "message_completed",
    ]  # fmt: skip


def test_a_turn_that_the_crash_cut_off_runs_again_under_its_id(tmp_path):
    slow = BODY | {"model": "sim:tokens=40,interval_ms=50"}
    streaming = {"method": "POST", "url": "/chat/stream", "json": slow, "headers": KEY}
    with Service(tmp_path) as first, first.client() as client, client.stream(**streaming) as stream:
        lines = stream.iter_lines()
        while "token_delta" not in next(lines):
            pass
        first.kill()
    with Service(tmp_path) as second, second.client() as client:
        again = client.post("/chat/stream", json=slow, headers=KEY)
        assert "idempotent-replayed" not in again.headers
        assert events(again.text)[-1][0] == "message_completed"
        messages = client.get("/sessions/s1/messages").json()["messages"]
    assert [message["status"] for message in messages] == ["completed", "completed"]
    assert messages[1]["message_id"] == events(again.text)[0][1]["message_id"]


@pytest.mark.parametrize("stream", [True, False], ids=["streamed", "whole"])
def test_a_completion_of_the_openai_door_is_told_again(service, stream):
    body = {"model": "sim:tokens=12", "messages": [{"role": "user", "content": "Hello?"}], "stream": stream}
    with service.client() as client:
        first, again = [
            client.post("/v1/chat/completions", json=body, headers={"Idempotency-Key": f"key-{stream}"})
            for _ in range(2)
        ]
        other = client.post("/v1/chat/completions", json=body | {"n": 1}, headers={"Idempotency-Key": f"key-{stream}"})
    assert again.headers["idempotent-replayed"] == "true"
    assert "idempotent-replayed" not in first.headers
    assert other.status_code == 409
    if not stream:
        assert first.json()["choices"] == again.json()["choices"]
        assert first.json()["usage"] == again.json()["usage"]
        assert first.json()["id"] == again.json()["id"]


def test_the_routes_have_keys_of_their_own(service):
    with service.client() as client:
        turn = client.post("/chat/stream", json=BODY, headers={"Idempotency-Key": "shared"})
        body = {"model": "sim:tokens=3", "messages": [{"role": "user", "content": "Hello?"}]}
        completion = client.post("/v1/chat/completions", json=body, headers={"Idempotency-Key": "shared"})
    assert (turn.status_code, completion.status_code) == (200, 200)
    assert "idempotent-replayed" not in completion.headers
