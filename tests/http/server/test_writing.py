"""Writing a piece of an answer without waiting: `forebay.write`, what uvicorn's `send` does where it would not wait."""

from __future__ import annotations

import http.client

import pytest

from tests.http.server.harness import HEAD, PATIENCE, Running, eventually


@pytest.fixture(scope="module")
def server():
    with Running() as running:
        yield running


def fetched(server, path: str, method: str = "GET") -> bytes:
    """The body of an answer, as a client sees it that nobody here wrote."""
    connection = http.client.HTTPConnection(*server.address, timeout=PATIENCE)
    try:
        connection.request(method, path)
        return connection.getresponse().read()
    finally:
        connection.close()


def test_pieces_written_at_once_stand_in_the_answer_in_order_and_none_before_its_head_or_after_its_end(server):
    assert fetched(server, "/quick") == b"one,two,three", "an empty piece, written as a chunk, would be the end"
    assert server.noted("said") == [False, True, True, True, True, False]


def test_an_answer_without_a_body_takes_no_piece(server):
    assert fetched(server, "/quick", "HEAD") == b""
    assert server.noted("said") == [False] * 6


def test_a_piece_that_would_wait_is_not_written_and_once_the_reader_has_read_pieces_are_taken_again(server):
    with server.connect(b"GET /gush" + HEAD + b"\r\n", receive_buffer=4096) as client:
        first = server.noted("paused")
        assert first < 50_000_000
        assert server.in_loop(lambda: unsent(server)) <= server.limits.write_high_water_bytes + 2 * 1024
        data = b""
        while not data.endswith(b"0\r\n\r\n"):
            data += client.recv(65536)
        second = server.noted("paused")
        server.noted("gushed")
    assert second > 0
    assert data.count(bytes(1000)) == (first + second) // 1000
    assert data.count(b"4\r\nthen\r\n") == 2


def test_a_piece_for_a_client_that_has_left_is_not_written(server):
    with server.connect(b"GET /after" + HEAD + b"\r\n"):
        server.noted("waiting")
    assert server.noted("said") is False
    eventually(lambda: server.connections() == 0)


def unsent(server) -> int:
    return sum(connection.transport.get_write_buffer_size() for connection in server.server.server_state.connections)
