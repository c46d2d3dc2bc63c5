"""Limits as a client meets them: rates, quotas, streams of a user; and that workers share what the settings say."""

import socket
import threading

import pytest

from tests.http.raw import chat, connect, read_until, until
from tests.process import Service
from tests.support import not_across_midnight

PROVIDER = """
[[providers]]
name = "simulated"
kind = "simulated"
models = ["sim"]
max_concurrency = 100
"""
SHORT = {"session_id": "s", "message": "What is case C-1042 about?", "model": "sim:tokens=3,interval_ms=0,ttft_ms=0"}


def serving(folder, limits, *arguments):
    return Service(folder, f"[limits]\n{limits}\n{PROVIDER}", *arguments)


def test_a_rate_is_in_the_headers_of_every_answer_on_both_doors(tmp_path):
    with serving(tmp_path, 'tenant_rate = "4/minute"') as service, service.client() as client:
        completion = {"model": SHORT["model"], "messages": [{"role": "user", "content": "hello"}]}
        answers = [client.post("/chat/stream", json=SHORT), client.post("/v1/chat/completions", json=completion)]
        answers.append(client.post("/v1/chat/completions", json={**completion, "stream": True}))
        answers.append(client.post("/chat/stream", json=SHORT))
        assert [one.status_code for one in answers] == [200] * 4
        assert [one.headers["x-ratelimit-remaining"] for one in answers] == ["3", "2", "1", "0"]
        refused = client.post("/chat/stream", json=SHORT)
        assert (refused.status_code, refused.json()["code"]) == (429, "rate_limited")
        assert refused.headers["content-type"] == "application/problem+json"
        assert 1 <= int(refused.headers["retry-after"]) <= 60
        openai = client.post("/v1/chat/completions", json=completion)
        assert (openai.status_code, openai.json()["error"]["type"]) == (429, "rate_limit_error")
        assert openai.headers["x-ratelimit-remaining"] == "0"
        assert client.get("/sessions/s/messages").status_code == 200  # only turns are counted
        service.comes_to(2, "forebay_rejections_total", reason="rate")


def test_a_day_s_tokens_refuse_the_next_turn(tmp_path):
    not_across_midnight()
    with serving(tmp_path, "tenant_tokens_per_day = 20") as service, service.client() as client:
        assert client.post("/chat/stream", json=SHORT).status_code == 200
        refused = client.post("/chat/stream", json=SHORT)
        assert (refused.status_code, refused.json()["code"]) == (429, "rate_limited")
        service.comes_to(1, "forebay_rejections_total", reason="quota")


@pytest.mark.parametrize("workers", [1, 2])
def test_workers_share_the_limits_and_the_queue_and_refuse_the_rest(tmp_path, workers):
    with serving(
        tmp_path, "requests = 10\ntenant_requests = 10\nqueue = 4\ntenant_queue = 4", "--workers", str(workers)
    ) as service:
        until(lambda: len(service.lines("service_started")) == workers)
        assert service.metric("forebay_concurrency_limit", resource="requests") == 10
        assert service.metric("forebay_concurrency_limit", resource="model:simulated") == 100
        clients = [connect(service, chat("sim:stall_at=1", session=f"s{number}")) for number in range(60)]
        answers = []

        def read(client):
            try:
                answers.append(read_until(client, b"\r\n\r\n"))
            except TimeoutError:
                answers.append(b"")

        readers = [threading.Thread(target=read, args=(client,)) for client in clients]
        for reader in readers:
            reader.start()
        for reader in readers:
            reader.join()
        served = [answer for answer in answers if b" 200 " in answer]
        refused = [answer for answer in answers if b" 200 " not in answer]
        assert len(served) == 10, "each worker had enough of sixty to fill its part"
        assert all(b"retry-after: " in answer for answer in refused)
        assert service.metric("forebay_concurrency_in_use", resource="requests") == 10
        service.comes_to(50, "forebay_rejections_total")
        for client in clients:
            client.shutdown(socket.SHUT_RDWR)
            client.close()
        service.comes_to(0, "forebay_requests_in_flight")
        service.comes_to(0, "forebay_concurrency_in_use")


def test_sigterm_while_turns_wait_in_the_queue_refuses_them_and_ends_with_0(tmp_path):
    limits = "requests = 1\ntenant_requests = 1\nqueue_wait_ms = 20_000\n[server]\ndrain_seconds = 1"
    with serving(tmp_path, limits) as service:
        running = connect(service, chat("sim:stall_at=1"))
        read_until(running, b"token_delta")
        waiting = [connect(service, chat(SHORT["model"], session=f"s{number}")) for number in range(5)]
        until(lambda: service.metric("forebay_admission_queue_depth", resource="requests") == 5)
        service.process.terminate()
        assert b'"shutting_down"' in read_until(running, b"event: error") + running.recv(65536)
        for client in waiting:
            answer = read_until(client, b"shutting_down")
            assert answer.startswith(b"HTTP/1.1 503 ")
            client.close()
        running.close()
        assert service.stop() == 0
