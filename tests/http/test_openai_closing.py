"""Who leaves costs nothing more: the provider's connection is closed at once, wherever the answer was.

Through the whole service, with real sockets at both ends; the clock is the test's, which is at both ends too. No budget
ends in the time of a test, so what closes a connection is that the client left. How soon it does each time is asked in
`make proof` alone: a machine that does other things as well may be late many times, but not every time.
"""

from __future__ import annotations

import json
import socket
import time
from contextlib import ExitStack, contextmanager
from pathlib import Path

import httpx
import pytest

from tests.http.upstream import Upstream, config
from tests.process import Service
from tests.support import PATIENCE, PROOF, proof_count

WITHIN = 0.05  # seconds from the client's close to the provider's, for 99 of 100
MAY_BE_LATE = 0.01  # of all
AT_BEST = 1.0  # what every stage does sooner at least once; an attempt to connect is given up after five by itself
STAGES = 5
TIMES = proof_count(50, 500) // STAGES  # at each
SYN_SENT = "02"  # of the states in /proc/net/tcp


@contextmanager
def deaf():
    """A listener that takes no more connections: whoever connects hears nothing. Yields its port."""
    with ExitStack() as stack:
        listener = stack.enter_context(socket.socket())
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for _ in range(3):  # one or two fill its queue, as the kernel counts
            filling = stack.enter_context(socket.socket())
            filling.setblocking(False)
            filling.connect_ex(listener.getsockname())
        yield listener.getsockname()[1]


def connecting_to(port: int) -> set[str]:
    """The sockets of this machine that are connecting to `port`, without those of `deaf` itself."""
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return {row[9] for row in rows if row[2].endswith(f":{port:04X}") and row[3] == SYN_SENT}


@pytest.fixture(scope="module")
def upstream():
    with Upstream() as running:
        yield running


@pytest.fixture(scope="module")
def port():
    with deaf() as found:
        yield found


@pytest.fixture(scope="module")
def service(tmp_path_factory, upstream, port):
    unreachable = f"""
[[providers]]
name = "deaf"
kind = "openai_compatible"
base_url = "http://127.0.0.1:{port}/v1"
models = ["deaf"]
max_attempts = 1
"""
    settings = config(upstream) + unreachable
    with Service(tmp_path_factory.mktemp("closing"), settings, environ={"UPSTREAM_KEY": "k"}) as running:
        yield running


def leave_stream(service: Service, upstream: Upstream, model: str, until: str) -> float:
    """Ask, wait for a line of the answer and for the provider's side, leave; return how long it was kept busy."""
    body = {"session_id": "s1", "message": "one two three", "model": model}
    with service.client() as client:
        with client.stream("POST", "/chat/stream", json=body) as stream:
            lines = stream.iter_lines()  # held on to: dropping it would leave already
            next(line for line in lines if until in line)
            asked = upstream.next()
            left = time.monotonic()
        return asked.wait_until_left() - left


def leave_whole(service: Service, upstream: Upstream) -> float:
    """Ask for an answer in one piece and leave while it is put together."""
    body = json.dumps({"model": "stalls", "messages": [{"role": "user", "content": "hi"}]}).encode()
    head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n"
    head += "".join(f"{name}: {value}\r\n" for name, value in service.headers.items())
    address = httpx.URL(service.url)
    with socket.create_connection((address.host, address.port)) as client:
        client.sendall(head.encode() + b"\r\n" + body)
        asked = upstream.next()
        left = time.monotonic()
    return asked.wait_until_left() - left


def leave_connecting(service: Service, port: int, before: set[str]) -> float:
    """Ask a provider that takes no connection and leave while one is being made."""

    def until(wanted: bool) -> float:
        deadline = time.monotonic() + PATIENCE
        while bool(connecting_to(port) - before) is not wanted:
            assert time.monotonic() < deadline, "it did not happen in time"
            time.sleep(0.001)  # the service needs the processor too
        return time.monotonic()

    body = {"session_id": "s1", "message": "one two three", "model": "deaf"}
    with service.client() as client:
        with client.stream("POST", "/chat/stream", json=body):
            until(wanted=True)
            left = time.monotonic()
        return until(wanted=False) - left


@pytest.mark.skipif(not Path("/proc/net/tcp").exists(), reason="only Linux tells who is connecting")
def test_a_provider_is_left_at_once_wherever_its_answer_was(service, upstream, port):
    before = connecting_to(port)
    stages = {
        "connecting": lambda: leave_connecting(service, port, before),
        "waiting for the headers": lambda: leave_stream(service, upstream, "no-headers", "message_start"),
        "before the first chunk": lambda: leave_stream(service, upstream, "no-chunk", "message_start"),
        "in the middle": lambda: leave_stream(service, upstream, "endless", "token_delta"),
        "in one piece": lambda: leave_whole(service, upstream),
    }
    took = [(leave(), stage) for _ in range(TIMES) for stage, leave in stages.items()]
    late = [f"{seconds * 1e3:.0f} ms {stage}" for seconds, stage in took if seconds > WITHIN]
    best = {stage: min(seconds for seconds, at in took if at == stage) for stage in stages}
    assert max(best.values()) < AT_BEST, best
    assert not PROOF or len(late) <= MAY_BE_LATE * len(took), f"{len(late)} of {len(took)} were late: {late}"
    service.comes_to(0, "forebay_concurrency_in_use")
