"""Slow and hostile clients through the whole service, in one process and in two: bounded, noticed, freed, counted."""

import json
import shutil
import socket
import time

import pytest

from tests.http.raw import FLOOD, chat, connect, held, kernel_memory, read_until, resident, rest
from tests.process import SIMULATED, Service
from tests.support import PROOF, until

EMIT = 2.0  # seconds that a write may wait for its reader
LONGER = 9.0  # seconds; less than the ten that a write may wait by default
FREED = 10.0  # seconds; half of what the kernel waits for an acknowledgement by itself
CONFIG = f"""
[budgets]
emit_ms = {round(EMIT * 1000)}
[limits]
requests = 600
queue = 600
[[providers]]
name = "simulated"
kind = "simulated"
models = ["sim"]
max_concurrency = 1000
"""
QUICK = "sim:tokens=3,interval_ms=0,ttft_ms=0"
KIB = 1024
needs_ss = pytest.mark.skipif(shutil.which("ss") is None, reason="no ss: apt-get install -y iproute2")


@pytest.fixture(scope="module", params=[1, 2], ids=["one process", "two workers"])
def service(request, tmp_path_factory):
    with Service(tmp_path_factory.mktemp("service"), CONFIG, "--workers", str(request.param)) as running:
        until(lambda: len(running.lines("service_started")) == request.param)
        yield running


def assert_at_rest(service):
    """Invariants 1 and 2 of the contract, as /metrics shows them."""
    for gauge in (
        "requests_in_flight", "concurrency_in_use", "stream_queue_depth", "admission_queue_depth", "concurrency_unowned"
    ):  # fmt: skip
        service.comes_to(0, f"forebay_{gauge}")
    service.comes_to(service.metric("forebay_requests_started_total"), "forebay_requests_total")
    service.comes_to(service.metric("forebay_requests_total", outcome="rejected"), "forebay_rejections_total")


@needs_ss
def test_a_reader_that_reads_nothing_is_dropped_within_the_emit_budget_and_its_socket_freed(service):
    before = service.metric("forebay_cancellations_total", cause="stalled_reader")
    began = time.monotonic()
    with connect(service, chat(FLOOD), receive_buffer=4096):
        service.comes_to(before + 1, "forebay_cancellations_total", cause="stalled_reader")
        assert time.monotonic() - began < LONGER
        until(lambda: not held(service), FREED)
    assert_at_rest(service)
    line = until(lambda: [line for line in service.lines("request") if line["cause"] == "stalled_reader"])[-1]
    assert line["outcome"] == "cancelled"
    assert service.metric("forebay_reader_blocked_seconds_total") >= EMIT * 0.9
    assert service.metric("forebay_producer_blocked_seconds_total") > 0


def test_a_client_that_leaves_within_its_body_is_counted_as_one_that_left(service):
    left = {"route": "/chat/stream", "cause": "client_disconnect", "phase": "input.validation"}
    before = service.metric("forebay_cancellations_total", **left)
    with connect(service, chat(QUICK)[:-5]):
        pass
    service.comes_to(before + 1, "forebay_cancellations_total", **left)
    assert_at_rest(service)


@needs_ss
def test_a_hundred_readers_that_read_nothing_cost_little_memory(service):
    before = service.metric("forebay_cancellations_total", cause="stalled_reader")
    with connect(service, chat(QUICK)) as one:
        read_until(one, b"message_completed")
    resting = resident(service)
    clients = [connect(service, chat(FLOOD, session=f"s{number}"), receive_buffer=4096) for number in range(100)]
    try:
        most_kernel = most = 0
        while service.metric("forebay_cancellations_total", cause="stalled_reader") < before + 100:
            most_kernel = max([most_kernel, *kernel_memory(service)])
            most = max(most, resident(service))
        assert most_kernel <= 256 * KIB
        # Some 200 KiB each: the answer until then, which is to be stored, tasks, spans, and 20 KiB of unsent bytes.
        assert most - resting <= 100 * 350 * KIB
    finally:
        for client in clients:
            client.close()
    assert_at_rest(service)


def test_a_reader_that_is_only_slow_gets_everything(service):
    with connect(service, chat("sim:tokens=3000,interval_ms=0,ttft_ms=0"), receive_buffer=8192) as client:
        data = b""
        while b"message_completed" not in data:
            data += client.recv(16384)
            time.sleep(0.02)  # a reader of its own pace
    assert data.count(b"event: token_delta") == 3000


def test_a_thousand_silent_connections_are_closed_while_others_are_served(service):
    whole = chat(QUICK)
    head = whole[: whole.index(b"\r\n\r\n") + 4]
    began = time.monotonic()
    silent = [connect(service, (b"", b"POST /chat/str", whole[:60], head, whole[:-5])[n % 5]) for n in range(1000)]
    for number in range(20):
        with connect(service, chat(QUICK, session=f"beside{number}")) as client:
            read_until(client, b"message_completed")
    for connection in silent:
        rest(connection)
        connection.close()
    assert not PROOF or time.monotonic() - began < 12  # ten, and what a thousand connects take here
    assert_at_rest(service)


def test_one_request_may_be_pipelined_and_no_more(service):
    with connect(service, chat(QUICK) + chat(QUICK, session="second")) as client:
        data = read_until(client, b"message_completed")
        while data.count(b"event: message_completed") < 2:
            data += client.recv(65536)
    before = service.metric("forebay_client_disconnects_total")
    with connect(service, chat("sim:stall_at=1")) as client:
        read_until(client, b"token_delta")
        client.sendall(chat(QUICK) + chat(QUICK))
        rest(client)
    service.comes_to(before + 1, "forebay_client_disconnects_total")
    assert_at_rest(service)


def test_a_request_that_waits_behind_another_is_counted_when_its_client_leaves(service):
    started = service.metric("forebay_requests_started_total")
    before = service.metric("forebay_requests_total", outcome="cancelled")
    with connect(service, chat("sim:stall_at=1")) as client:
        read_until(client, b"token_delta")
        client.sendall(chat(QUICK))
    service.comes_to(before + 2, "forebay_requests_total", outcome="cancelled")
    service.comes_to(started + 2, "forebay_requests_started_total")
    assert_at_rest(service)


@pytest.mark.parametrize("model", ["sim:ttft_ms=60000", "sim:stall_at=2"])
def test_a_half_close_ends_the_turn(service, model):
    before = service.metric("forebay_cancellations_total", cause="client_disconnect")
    with connect(service, chat(model)) as client:
        read_until(client, b"message_start" if "ttft" in model else b"token_delta")
        client.shutdown(socket.SHUT_WR)
        service.comes_to(before + 1, "forebay_cancellations_total", cause="client_disconnect")
    assert_at_rest(service)


def test_a_disconnect_behind_a_stalled_write_is_noticed_before_the_write_s_budget(tmp_path):
    with Service(tmp_path, f"[budgets]\nemit_ms = 3_600_000\n{SIMULATED}") as service:
        client = connect(service, chat(FLOOD), receive_buffer=4096)
        until(lambda: service.metric("forebay_stream_queue_depth") > 0)
        client.shutdown(socket.SHUT_WR)
        service.comes_to(1, "forebay_cancellations_total", cause="client_disconnect")
        client.close()
        assert_at_rest(service)


def test_a_413_arrives_at_a_client_that_is_still_sending_and_is_counted(service):
    refused = {"reason": "too_large"}
    before = service.metric("forebay_rejections_total", **refused)
    size = 16 * 1024 * KIB
    head = f"POST /chat/stream HTTP/1.1\r\nHost: test\r\nContent-Length: {size}\r\n\r\n".encode()
    with connect(service, head) as client:
        for _ in range(size // (64 * KIB)):
            client.sendall(b"x" * 64 * KIB)
        answer = rest(client)
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 413 ")
    assert json.loads(body)["code"] == "too_large"
    service.comes_to(before + 1, "forebay_rejections_total", **refused)
    assert_at_rest(service)


def test_headers_over_their_limit_are_refused_with_431_and_counted(service):
    refused = {"reason": "too_large"}
    before = service.metric("forebay_rejections_total", **refused)
    with connect(service, chat(QUICK, headers=f"X-Padding: {'x' * 40_000}\r\n")) as client:
        assert rest(client).startswith(b"HTTP/1.1 431 ")
    service.comes_to(before + 1, "forebay_rejections_total", **refused)
    assert_at_rest(service)
