"""A client that reads nothing costs little, and is gone for good when the application says so."""

from __future__ import annotations

import dataclasses
import re
import shutil
import subprocess
import threading
import time

import pytest

from service.server.limits import KIB, ServerLimits
from tests.http.server.harness import HEAD, Running, closed, eventually

LIMITS = dataclasses.replace(ServerLimits(), keep_alive_seconds=1.0, sweep_seconds=0.1)
FLOOD = b"GET /flood" + HEAD + b"\r\n"
needs_ss = pytest.mark.skipif(shutil.which("ss") is None, reason="no ss: apt-get install -y iproute2")


@pytest.fixture
def server():
    with Running(LIMITS) as running:
        yield running


def kernel_memory(server) -> int:
    """The most that the kernel has allocated for the server's side of one connection, in bytes.

    `w` of ss's skmem: what is queued for sending, with the kernel's own overhead.
    """
    command = ["ss", "-tmnH", "state", "connected", f"sport = :{server.address[1]}"]
    out = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return max(int(queued) for queued in re.findall(r"skmem:\([^)]*,w(\d+),", out))


def states(server) -> str:
    """What the kernel still knows of the server's side."""
    command = ["ss", "-tanH", f"sport = :{server.address[1]}"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


@needs_ss
def test_memory_held_for_a_reader_that_reads_nothing_is_bounded(server):
    keep = b"GET /flood?keep" + HEAD + b"\r\n"
    clients = [server.connect(keep) for _ in range(10)]
    try:
        for _ in clients:
            server.noted("stalled")
        assert kernel_memory(server) <= 256 * KIB
        assert server.in_loop(lambda: unsent(server)) <= len(clients) * 20 * KIB
    finally:
        for client in clients:
            client.close()
    for _ in clients:
        server.noted("flooded")


@needs_ss
def test_an_aborted_connection_leaves_nothing_in_the_kernel(server, caplog):
    with server.connect(FLOOD, receive_buffer=4096):
        server.noted("stalled")
        server.noted("flooded")
        eventually(lambda: server.connections() == 0)
        eventually(lambda: [line.split()[0] for line in states(server).splitlines()] == ["LISTEN"])
    assert not caplog.records  # an abort is no error of the application's


def test_a_slow_reader_of_a_complete_answer_is_not_cut_off(server):
    with server.connect(b"GET /big?bytes=1500000" + HEAD + b"\r\n", receive_buffer=16384) as client:
        pace = threading.Event()
        began = time.monotonic()
        data = client.recv(200)
        while piece := client.recv(10_000):  # at most: so it takes three seconds
            data += piece
            if len(data) >= 1_500_000:
                break
            pace.wait(0.02)
        assert time.monotonic() - began > 2 * LIMITS.keep_alive_seconds


def test_an_answer_that_nobody_takes_is_given_up(server):
    with server.connect(b"GET /big?bytes=9000000" + HEAD + b"\r\n", receive_buffer=4096) as client:
        eventually(lambda: server.in_loop(lambda: unsent(server)) > 0)
        eventually(lambda: server.connections() == 0)
        assert len(closed(client)) < 9_000_000


def unsent(server) -> int:
    return sum(connection.transport.get_write_buffer_size() for connection in server.server.server_state.connections)
