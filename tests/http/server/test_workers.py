"""Several workers: one port, each restarted when it dies, all ended together."""

from __future__ import annotations

import os
import signal
from pathlib import Path

from tests.http.server.harness import Process, closed, eventually, is_readable
from tests.http.server.test_drain import LAST, opened, refuses

WORKERS = ("--workers", "2", "--drain", "1")


def pids(server: Process, port: int) -> set[int]:
    """The workers that answer; the kernel spreads connections by their ports."""
    return {int(server.get(port, "/pid").content) for _ in range(40)}


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return "State:\tZ" not in Path(f"/proc/{pid}/status").read_text()


def test_connections_are_spread_over_the_workers():
    with Process(*WORKERS) as server:
        found = pids(server, server.port())
        assert len(found) == 2
        assert server.process.pid not in found
        server.signal()
        assert server.ended() == 0


def test_a_worker_that_dies_is_replaced_and_no_connection_is_refused():
    with Process(*WORKERS) as server:
        port = server.port()
        before = pids(server, port)
        os.kill(min(before), signal.SIGKILL)
        eventually(lambda: len(after := pids(server, port)) == 2 and min(before) not in after)
        server.signal()
        assert server.ended() == 0
        assert "a worker died" in server.process.stderr.read()


def test_all_workers_drain_on_one_signal():
    with Process(*WORKERS) as server:
        port = server.port()
        pids(server, port)
        clients = opened(server, port, 40)
        server.signal()
        assert all(LAST in closed(client) for client in clients)
        assert server.ended() == 0
        for client in clients:
            client.close()


def test_a_second_signal_reaches_the_workers():
    with Process("--workers", "2", "--drain", "60") as server:
        port = server.port()
        pids(server, port)
        clients = opened(server, port, 10)
        server.signal()
        refuses(server, port)
        server.signal()
        assert all(LAST in closed(client) for client in clients)
        assert server.ended() == 0
        for client in clients:
            client.close()


def test_a_ctrl_c_is_one_signal_for_the_workers():
    with Process("--workers", "2", "--drain", "60") as server:
        port = server.port()
        pids(server, port)
        clients = opened(server, port, 10)
        server.interrupt()
        refuses(server, port)
        assert not any(is_readable(client, 0.05) for client in clients)  # they have their 60 s
        server.interrupt()
        assert all(LAST in closed(client) for client in clients)
        assert server.ended() == 0
        for client in clients:
            client.close()


def test_workers_end_with_a_parent_that_was_killed():
    with Process(*WORKERS) as server:
        port = server.port()
        workers = pids(server, port)
        assert len(workers) == 2
        (client,) = opened(server, port, 1)
        server.process.kill()
        server.ended()
        assert LAST in closed(client)  # even then nobody is cut off
        client.close()
        eventually(lambda: not any(alive(pid) for pid in workers))


def test_a_worker_that_hangs_is_killed_when_its_time_is_over():
    with Process("--workers", "2", "--drain", "0", "--cleanup", "0.1") as server:
        port = server.port()
        assert server.get(port, "/hang").status == 200
        server.signal()
        assert server.ended() == 1


def test_even_a_worker_that_hangs_ends_with_its_parent():
    with Process("--workers", "2", "--drain", "0", "--cleanup", "0.1") as server:
        port = server.port()
        workers = pids(server, port)
        assert server.get(port, "/hang").status == 200
        server.process.kill()
        server.ended()
        eventually(lambda: not any(alive(pid) for pid in workers))


def test_workers_that_never_start_are_not_tried_for_ever():
    with Process(*WORKERS, FAIL_TO_START="1") as server:
        assert server.ended() == 1


def test_a_port_that_is_taken_is_not_silently_shared():
    with Process(*WORKERS) as first, Process(*WORKERS, "--port", str(first.port())) as second:
        assert second.ended() == 1
        assert "Address already in use" in second.process.stderr.read()
