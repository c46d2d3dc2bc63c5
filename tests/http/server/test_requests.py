"""Requests that are too large, too slow or no HTTP at all."""

from __future__ import annotations

import contextlib
import json
import threading
import time

import pytest

from service.api.openai_shapes import error_body
from service.errors import TooLarge
from service.server.limits import MIB, ServerLimits
from tests.http.server.harness import (
    HEAD,
    PATIENCE,
    Running,
    answer,
    closed,
    eventually,
    is_closed,
    is_readable,
    problem,
)

QUICK = ServerLimits(
    head_seconds=1.0,
    body_idle_seconds=1.0,
    body_seconds=2.5,
    keep_alive_seconds=1.0,
    linger_seconds=1.0,
    sweep_seconds=0.1,
)
HALVES = {
    "silent": b"",
    "half a head": b"POST /echo" + HEAD + b"X-Half: ",
    "half a body": b"POST /echo" + HEAD + b"Content-Length: 10\r\n\r\nhalf",
    "idle after an answer": b"GET /pid" + HEAD + b"\r\n",
}


@pytest.fixture(scope="module")
def server():
    with Running() as running:
        yield running


@pytest.fixture(scope="module")
def quick():
    with Running(QUICK) as running:
        yield running


def test_a_body_of_a_declared_length_reaches_the_application_whole(server):
    with server.connect(b"POST /echo" + HEAD + b"Content-Length: 3000000\r\n\r\n" + bytes(3_000_000)) as client:
        assert answer(client).content == b"3000000"
    assert server.noted("echo")[0] == 3_000_000


def test_a_chunked_body_reaches_the_application_whole(server):
    with server.connect(b"POST /echo" + HEAD + b"Transfer-Encoding: chunked\r\n\r\n") as client:
        for _ in range(20):
            client.sendall(b"%x\r\n" % 100_000 + bytes(100_000) + b"\r\n")
        client.sendall(b"0\r\n\r\n")
        assert answer(client).content == b"2000000"
    assert server.noted("echo")[0] == 2_000_000


def test_two_requests_use_one_connection_after_each_other(server):
    with server.connect() as client:
        for size in (3, 4):
            client.sendall(b"POST /echo" + HEAD + b"Content-Length: %d\r\n\r\n" % size + bytes(size))
            assert answer(client).content == b"%d" % size
            server.noted("echo")


def test_a_client_that_asks_whether_to_go_on_is_told_to(server):
    with server.connect(b"POST /echo" + HEAD + b"Content-Length: 4\r\nExpect: 100-continue\r\n\r\n") as client:
        assert client.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
        client.sendall(b"body")
        assert answer(client).content == b"4"
    server.noted("echo")


def test_a_body_declared_too_large_is_refused_before_it_is_sent(server):
    head = b"POST /echo?q" + HEAD + b"Content-Length: %d\r\nExpect: 100-continue\r\n\r\n" % (4 * MIB + 1)
    with server.connect(head) as client:
        response = answer(client)
        assert (response.status, problem(response)["code"]) == (413, "too_large")
        assert response.headers["connection"] == "close"
    assert server.noted("refused") == ("POST", "/echo", 413)


@pytest.mark.parametrize(
    "target", [b"/v1/chat/completions", b"http://test/v1/chat/completions?q", b"/v1/chat%2Fcompletions"]
)
def test_a_refusal_is_for_the_path_that_the_application_would_see_and_under_v1_in_the_shape_of_openai(server, target):
    with server.connect(b"POST " + target + HEAD + b"Content-Length: %d\r\n\r\n" % (4 * MIB + 1)) as client:
        response = answer(client)
    assert (response.status, response.headers["content-type"]) == (413, "application/json")
    assert json.loads(response.content) == error_body(TooLarge("The body is over its limit."))
    assert response.headers["x-request-id"]
    assert server.noted("refused") == ("POST", "/v1/chat/completions", 413)


@pytest.mark.parametrize("chunked", [False, True])
def test_the_refusal_reaches_a_client_that_is_still_sending(server, chunked):
    size = 16 * MIB
    how = b"Transfer-Encoding: chunked\r\n\r\n%x\r\n" % size if chunked else b"Content-Length: %d\r\n\r\n" % size
    with server.connect(b"POST /echo" + HEAD + how) as client:
        client.sendall(bytes(size))  # fails if the server closes or stops reading while this goes on
        response = answer(client)
        assert (response.status, problem(response)["code"]) == (413, "too_large")
        assert closed(client) == b""
    assert server.noted("refused") == ("POST", "/echo", 413)


def test_a_client_that_never_stops_sending_is_cut_off_after_the_refusal(server):
    head = b"POST /echo" + HEAD + b"Content-Length: 1000000000000\r\n\r\n"
    with server.connect(head) as client, pytest.raises(OSError, match=r"reset|Broken pipe"):
        client.sendall(bytes(64 * MIB))
    server.noted("refused")


def test_a_client_that_stays_after_the_refusal_is_closed_after_two_seconds(server):
    with server.connect(b"POST /echo" + HEAD + b"Content-Length: 1000000000000\r\n\r\n") as client:
        assert answer(client).status == 413
        assert client.recv(1) == b""  # it will say no more
        stop = threading.Event()
        with contextlib.suppress(OSError):
            while not stop.wait(0.05):
                client.sendall(b"x")
    assert server.noted("refused")[2] == 413


@pytest.mark.parametrize("ended", [True, False])
def test_33_kib_of_headers_are_refused(server, ended):
    with server.connect(b"GET /pid" + HEAD + b"X-Long: " + b"x" * 33 * 1024 + b"\r\n\r\n" * ended) as client:
        response = answer(client)
        assert (response.status, problem(response)["code"]) == (431, "too_large")
    assert server.noted("refused") == ("GET", "/pid", 431)


def test_31_kib_of_headers_are_accepted(server):
    with server.connect(b"GET /pid" + HEAD + b"X-Long: " + b"x" * 31 * 1024 + b"\r\n\r\n") as client:
        assert answer(client).status == 200


def test_headers_without_end_are_not_kept(server):
    with server.connect(b"GET /pid" + HEAD) as client:
        for number in range(40):
            client.sendall(b"X-%d: " % number + b"x" * 1000 + b"\r\n")
        assert answer(client).status == 431
    server.noted("refused")


def test_trailers_without_end_are_refused(server):
    chunk = b"1\r\nx\r\n0\r\nX-Trailer: " + b"x" * 40_000
    with server.connect(b"POST /echo" + HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + chunk) as client:
        client.sendall(b"x" * 40_000)
        assert answer(client).status == 431
    server.noted("refused")


def test_a_trailer_does_not_pass_for_a_header(server):
    chunks = b"1\r\nx\r\n0\r\nAuthorization: Bearer forged\r\n\r\n"
    with server.connect(b"POST /echo" + HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + chunks) as client:
        assert answer(client).status == 200
    assert server.noted("echo")[2] == "host,transfer-encoding"


@pytest.mark.parametrize(
    "data",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"GET /pid HTTP/9.9\r\n\r\n",
        b"GET  HTTP/1.1\r\n\r\n",
        b"GET /pid" + HEAD + b"Bad header\r\n\r\n",
        b"POST /echo" + HEAD + b"Content-Length: ten\r\n\r\n",
        b"POST /echo" + HEAD + b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"POST /echo" + HEAD + b"Transfer-Encoding: chunked\r\n\r\nnonsense\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"CONNECT nowhere:443 HTTP/1.1\r\nHost: nowhere\r\n\r\n",
        "GET /\N{SNOWMAN}".encode() + HEAD + b"\r\n",
    ],
)
def test_what_is_no_http_gets_400_in_our_words(server, data):
    with server.connect(data) as client:
        response = answer(client)
        assert (response.status, problem(response)["code"]) == (400, "invalid_request")
        assert is_closed(client, PATIENCE)
    assert server.noted("refused")[2] == 400


def test_a_bad_request_behind_a_good_one_is_refused_after_its_answer(server):
    with server.connect(b"GET /pid" + HEAD + b"\r\n" + b"nonsense\r\n\r\n") as client:
        data = closed(client)
    assert data.startswith(b"HTTP/1.1 200")
    assert data.count(b"HTTP/1.1 400") == 1
    server.noted("refused")


def test_a_connection_that_goes_silent_is_closed(quick):
    clients = {half: quick.connect(data) for half, data in HALVES.items()}
    assert answer(clients["idle after an answer"]).status == 200
    for half, client in clients.items():
        with client:
            data = closed(client)
        if half.startswith("half"):
            assert data.startswith(b"HTTP/1.1 408 Request Timeout\r\n")
            assert quick.noted("refused") == ("POST", "/echo", 408)
        else:
            assert data == b""


def test_a_body_that_trickles_is_refused_after_its_time(quick):
    with quick.connect(b"POST /echo" + HEAD + b"Content-Length: 1000\r\n\r\n") as client:
        began = time.monotonic()
        for _ in range(500):  # each is well within what a silence may take, all of them are not within the body's time
            if is_readable(client, 0.1):
                break
            client.sendall(b"x")
        assert answer(client).status == 408
        assert time.monotonic() - began > QUICK.body_idle_seconds + QUICK.sweep_seconds
    assert quick.noted("refused") == ("POST", "/echo", 408)


def test_a_running_request_is_not_timed_by_the_connection(quick):
    with quick.connect(b"POST /wait" + HEAD + b"Content-Length: 0\r\n\r\n") as client:
        quick.noted("waiting")
        assert not is_readable(client, 2 * QUICK.body_idle_seconds)
    quick.noted("disconnected")


def test_a_thousand_connections_that_go_silent_are_closed_in_time(quick):
    halves = list(HALVES.values())[:3]
    clients = [quick.connect(halves[number % 3]) for number in range(1000)]
    try:
        for client in clients:
            closed(client)
        eventually(lambda: quick.connections() == 0)
    finally:
        for client in clients:
            client.close()
    assert sum(quick.noted("refused")[2] == 408 for _ in range(666)) == 666


def test_the_shipped_limits_close_a_silent_connection_within_ten_seconds():
    limits = ServerLimits()
    refused_after = max(limits.head_seconds, limits.body_idle_seconds) + limits.sweep_seconds
    assert refused_after + limits.linger_seconds + limits.sweep_seconds <= 10
    assert limits.keep_alive_seconds + limits.sweep_seconds < 10
