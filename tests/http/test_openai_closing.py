"""Who leaves costs nothing more: the provider's connection is closed at once, wherever the answer was.

Through the whole service, with real sockets at both ends; the clock is the test's, which is at both ends too.
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
from tests.support import PROOF, proof_count

WITHIN = 0.05  # seconds from the client's close to the provider's, for 99 of 100
MAY_BE_LATE = 0.01 if PROOF else 0.5  # of all: a machine that does other things as well is late more often
NEVER_LATER = 5.0
STAGES = 5
TIMES = proof_count(60, 500) // STAGES
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


def assert_closed_in_time(seconds: list[float]) -> None:
    seconds.sort()
    late = [f"{one * 1e3:.0f} ms" for one in seconds if one > WITHIN]
    assert len(late) <= MAY_BE_LATE * len(seconds), f"{len(late)} of {len(seconds)} took longer: {late}"
    assert seconds[-1] < NEVER_LATER


def leave_once(service: Service, upstream: Upstream, model: str, until: str) -> float:
    """Ask, wait for a line of the answer and for the provider's side, leave; return how long it was kept busy."""
    body = {"session_id": "s1", "message": "one two three", "model": model}
    with service.client() as client:
        with client.stream("POST", "/chat/stream", json=body) as stream:
            lines = stream.iter_lines()
            next(line for line in lines if until in line)
            asked = upstream.next()
            left = time.monotonic()
        return asked.wait_until_left() - left


@pytest.mark.parametrize(
    ("model", "until"),
    [("no-headers", "message_start"), ("no-chunk", "message_start"), ("endless", "token_delta")],
    ids=["while it waits for the headers", "before the first chunk", "in the middle of the stream"],
)
def test_the_provider_is_left_as_soon_as_the_client_has_gone(service, upstream, model, until):
    assert_closed_in_time([leave_once(service, upstream, model, until) for _ in range(TIMES)])
    assert service.metric("forebay_concurrency_in_use") == 0


def test_the_provider_is_left_when_the_client_of_an_answer_in_one_piece_has_gone(service, upstream):
    body = json.dumps({"model": "stalls", "messages": [{"role": "user", "content": "hi"}]}).encode()
    head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n"
    head += "".join(f"{name}: {value}\r\n" for name, value in service.headers.items())
    address = httpx.URL(service.url)

    def leave():
        with socket.create_connection((address.host, address.port)) as client:
            client.sendall(head.encode() + b"\r\n" + body)
            asked = upstream.next()
            left = time.monotonic()
        return asked.wait_until_left() - left

    assert_closed_in_time([leave() for _ in range(TIMES)])


@pytest.mark.skipif(not Path("/proc/net/tcp").exists(), reason="only Linux tells who is connecting")
def test_a_connection_that_is_being_made_is_given_up(service, port):
    ours = connecting_to(port)

    def until(wanted: bool) -> float:
        deadline = time.monotonic() + 10
        while bool(connecting_to(port) - ours) is not wanted:
            assert time.monotonic() < deadline, "it did not happen in time"
            time.sleep(0.001)  # the service needs the processor too
        return time.monotonic()

    def leave():
        body = {"session_id": "s1", "message": "one two three", "model": "deaf"}
        with service.client() as client:
            with client.stream("POST", "/chat/stream", json=body):
                until(wanted=True)
                left = time.monotonic()
            return until(wanted=False) - left

    assert_closed_in_time([leave() for _ in range(TIMES)])
