"""SIGTERM to a whole process: everybody is told, nobody is cut off, and it ends with 0."""

from __future__ import annotations

import signal

import pytest

from tests.http.server.harness import HEAD, Process, closed

STREAM = b"GET /stream" + HEAD + b"\r\n"
FIRST, LAST = b"event: message_start\n\n", b"event: error\n\n"


def opened(server: Process, port: int, count: int, stream: bytes = STREAM):
    """Streams that have begun."""
    clients = [server.connect(port, stream) for _ in range(count)]
    for client in clients:
        data = b""
        while FIRST not in data:
            data += client.recv(1000)
    return clients


def test_two_hundred_open_streams_are_each_told_before_the_end():
    with Process("--drain", "1") as server:
        clients = opened(server, server.port(), 200)
        server.signal()
        ends = [closed(client) for client in clients]
        assert server.ended() == 0
        assert sum(end.endswith(b"0\r\n\r\n") and LAST in end for end in ends) == 200
        assert server.process.stdout.read() == "open at shutdown: 0\n"
        assert server.process.stderr.read() == ""
        for client in clients:
            client.close()


def test_while_it_drains_new_connections_are_answered():
    with Process("--drain", "60") as server:
        port = server.port()
        (client,) = opened(server, port, 1)
        assert server.get(port, "/readyz").status == 200
        server.signal()
        refuses(server, port)
        server.signal()
        assert LAST in closed(client)
        client.close()
        assert server.ended() == 0


def refuses(server: Process, port: int) -> None:
    """Wait until every worker drains: of two signals that come at once a process sees one."""
    while any(server.get(port, "/readyz").status != 503 for _ in range(20)):
        pass


@pytest.mark.parametrize("sig", [signal.SIGTERM, signal.SIGINT])
def test_without_open_streams_it_ends_at_once(sig):
    with Process("--drain", "3600") as server:
        idle = server.connect(server.port())
        server.signal(sig)
        assert server.ended() == 0
        assert closed(idle) == b""
        idle.close()


def test_a_second_signal_ends_the_streams_now():
    with Process("--drain", "60") as server:
        port = server.port()
        clients = opened(server, port, 20)
        server.signal()
        refuses(server, port)
        server.signal()
        assert all(LAST in closed(client) for client in clients)
        assert server.ended() == 0
        for client in clients:
            client.close()


def test_a_clean_up_is_waited_for():
    with Process("--drain", "0", "--cleanup", "60") as server:
        clients = opened(server, server.port(), 5, b"GET /stream?clean=0.5" + HEAD + b"\r\n")
        server.signal()
        assert all(LAST in closed(client) for client in clients)
        assert server.ended() == 0
        for client in clients:
            client.close()


def test_a_request_that_does_not_listen_is_cancelled_and_its_clean_up_waited_for():
    with Process("--drain", "0", "--cleanup", "2") as server:
        (client,) = opened(server, server.port(), 1, b"GET /stream?deaf=1" + HEAD + b"\r\n")
        server.signal()
        closed(client)
        client.close()
        assert server.ended() == 0
        assert server.process.stdout.read() == "open at shutdown: 0\n"
        assert "drain failed" in server.process.stderr.read()


def test_an_application_that_does_not_start_ends_the_process_with_an_error():
    with Process(FAIL_TO_START="1") as server:
        assert server.ended() == 3


def test_a_port_that_is_taken_is_an_error():
    with Process() as first, Process("--port", str(first.port())) as second:
        assert second.ended() == 1
        assert "Address already in use" in second.process.stderr.read()
