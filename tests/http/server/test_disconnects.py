"""A client that goes, in whatever way, is noticed at once; what is pipelined stays in order and in bounds."""

from __future__ import annotations

import dataclasses
import gc
import os
import socket
import sys
import weakref

import pytest

from service.server.limits import ServerLimits
from service.server.protocol import Reading
from tests.http.server.harness import HEAD, PATIENCE, Running, answer, closed, eventually, is_closed

# Nothing but the disconnect itself can tell of one within a test's patience: no sweep, no time limit of the kernel's.
LIMITS = dataclasses.replace(
    ServerLimits(), sweep_seconds=3600, unacknowledged_seconds=3600, probe_after_seconds=1, probe_every_seconds=1
)
BODY = Reading.BODY
WAIT = b"POST /wait" + HEAD + b"Content-Length: 2\r\n\r\nhi"
ECHO = b"POST /echo" + HEAD + b"Content-Length: 2\r\n\r\nhi"
HALF_ECHO = ECHO[:-1]
STREAM = b"GET /stream" + HEAD + b"\r\n"


@pytest.fixture(scope="module")
def server():
    with Running(LIMITS) as running:
        yield running


def reset(client):
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    client.close()


@pytest.mark.parametrize("leave", [socket.socket.close, reset, lambda client: client.shutdown(socket.SHUT_WR)])
def test_a_disconnect_before_the_first_byte_reaches_the_application_at_once(server, leave):
    with server.connect(WAIT) as client:
        server.noted("waiting")
        leave(client)
        server.noted("disconnected")


@pytest.mark.parametrize("behind", [ECHO, HALF_ECHO, b"GET /pi", b"nonsense\r\n\r\n"])
def test_what_is_pipelined_does_not_hide_the_disconnect(server, behind):
    client = server.connect(WAIT)
    server.noted("waiting")
    client.sendall(behind)
    client.close()
    if behind in (ECHO, HALF_ECHO):
        assert server.noted("cut") == ("POST", "/echo", "client_disconnect")
    server.noted("disconnected")
    eventually(lambda: server.connections() == 0)
    assert server.app.notes.empty()  # and the pipelined one was never started


@pytest.mark.parametrize("leave", [socket.socket.close, reset])
def test_a_client_that_leaves_within_its_body_is_reported_once(server, leave):
    client = server.connect(b"POST http://test/ec%68o?x=1" + HEAD + b"Content-Length: 9\r\n\r\nhi")
    connections = server.server.server_state.connections
    eventually(lambda: server.in_loop(lambda: [one._reading for one in connections]) == [BODY])
    leave(client)
    assert server.noted("cut") == ("POST", "/echo", "client_disconnect")
    eventually(lambda: server.connections() == 0)
    assert server.app.notes.empty()


@pytest.mark.parametrize("sent", [b"", b"POST /ec", ECHO[:-8], ECHO])
def test_one_that_leaves_before_its_headers_are_in_or_after_its_answer_is_not(server, sent):
    with server.connect(sent) as client:
        eventually(lambda: server.connections() == 1)
        if sent is ECHO:
            answer(client)
            server.noted("echo")
    eventually(lambda: server.connections() == 0)
    assert server.app.notes.empty()


@pytest.mark.parametrize("sent", [b"", ECHO, WAIT, WAIT + ECHO, HALF_ECHO], ids=lambda sent: sent.decode()[:30])
def test_a_closed_connection_is_freed_without_the_garbage_collector(server, sent):
    connections = server.server.server_state.connections
    gc.disable()
    try:
        with server.connect(sent) as client:
            eventually(lambda: server.connections() == 1)
            if sent is ECHO:
                answer(client)
            elif sent.startswith(WAIT):
                server.noted("waiting")
            (connection,) = server.in_loop(lambda: [weakref.ref(one) for one in connections])
        eventually(lambda: connection() is None)
    finally:
        gc.enable()
        while not server.app.notes.empty():
            server.app.notes.get()


def test_a_pipelined_request_is_answered_after_the_first(server):
    with server.connect(b"GET /pid" + HEAD + b"\r\n" + ECHO) as client:
        assert answer(client).content == str(os.getpid()).encode()
        assert answer(client).content == b"2"
    server.noted("echo")


def test_a_pipelined_request_inherits_nothing_from_the_one_before(server):
    with server.connect(ECHO + ECHO) as client:
        assert [answer(client).content, answer(client).content] == [b"2", b"2"]
    assert [server.noted("echo")[1] for _ in range(2)] == ["", ""]


def test_a_pipelined_request_whose_body_comes_later_is_answered(server):
    with server.connect(ECHO + HALF_ECHO) as client:
        assert answer(client).content == b"2"
        client.sendall(b"i")
        assert answer(client).content == b"2"
    assert [server.noted("echo")[0] for _ in range(2)] == [2, 2]


def test_a_second_pipelined_request_ends_the_connection(server):
    with server.connect(WAIT) as client:
        server.noted("waiting")
        client.sendall(ECHO + ECHO)
        assert is_closed(client, PATIENCE)
    eventually(lambda: server.connections() == 0)
    told = {server.app.notes.get(timeout=PATIENCE) for _ in range(2)}
    assert ("cut", ("POST", "/echo", "client_disconnect")) in told  # the first one: of the second nothing was read
    assert {name for name, _ in told} == {"cut", "disconnected"}


def test_a_half_close_behind_a_reader_that_reads_nothing_is_noticed(server):
    with server.connect(b"GET /flood?keep" + HEAD + b"\r\n", receive_buffer=4096) as client:
        server.noted("stalled")
        client.shutdown(socket.SHUT_WR)
        server.noted("flooded")  # receive() said so, while the write buffer was full
    eventually(lambda: server.connections() == 0)


@pytest.mark.skipif(sys.platform != "linux", reason="TCP_REPAIR is Linux's")
def test_a_peer_that_vanishes_without_a_word_is_noticed(server):
    client = server.connect(WAIT)
    server.noted("waiting")
    try:
        client.setsockopt(socket.IPPROTO_TCP, 19, 1)  # TCP_REPAIR: its close sends nothing
    except PermissionError:
        client.close()
        server.noted("disconnected")
        pytest.skip("TCP_REPAIR needs CAP_NET_ADMIN: run as root")
    client.close()
    server.noted("disconnected")


UPGRADE = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n"


def test_an_upgrade_is_ignored_and_the_request_answered(server):
    with server.connect(b"GET /pid" + HEAD + UPGRADE + b"\r\n") as client:
        assert answer(client).content == str(os.getpid()).encode()
        assert closed(client) == b""


@pytest.mark.parametrize("first", [0, 4, 10])
def test_the_body_of_a_request_with_an_upgrade_is_not_lost(server, first):
    with server.connect(b"POST /echo" + HEAD + UPGRADE + b"Content-Length: 10\r\n\r\n" + bytes(first)) as client:
        client.sendall(bytes(10 - first))
        assert answer(client).content == b"10"
        assert closed(client) == b""
    server.noted("echo")


def test_http_1_0_is_answered_and_closed(server):
    with server.connect(b"GET /pid HTTP/1.0\r\n\r\n") as client:
        assert answer(client).status == 200
        assert closed(client) == b""
