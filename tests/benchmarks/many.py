"""Many open streams: what they cost while they say little, and what is left when they have gone.

`lively`: each stream says one token a second, on one worker; how late a token is is the time between two of them beyond
that second, as the client sees it. `idle`: streams that wait for their first token, sampled out; resident memory of the
process for each, without the kernel's buffers. `gone`: resident memory after as many streams as before, ended.
"""

from __future__ import annotations

import json
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

from tests.benchmarks.load import load
from tests.benchmarks.measure import Server, cpu_seconds, resident_bytes
from tests.benchmarks.results import Result, Row
from tests.benchmarks.service import HEADERS, SIMULATED, WIDE, Forebay, traced

if TYPE_CHECKING:
    from collections.abc import Iterator

OPENED_A_SECOND = 130.0  # half a core is left for what is open already
SETTLE = 3.0  # seconds between the last stream opened and the measurement
WATCHED = 15.0  # seconds of it
IDLE = 2_000
KIB = 1024


def run(streams: int = 10_000) -> Result:
    """Measure it."""
    with Server("collector") as collector, Forebay(traced(collector.url, 0.1) + WIDE + SIMULATED) as server:
        rows = _lively(server, streams)
    with Server("collector") as collector, Forebay(traced(collector.url, 0.0) + WIDE + SIMULATED) as server:
        rows += _idle(server) + _gone(server, streams)
    return Result("Many open streams", __doc__, f"{streams} streams, {IDLE} idle ones, one worker, one run", rows)


@contextmanager
def _open(server: Server, streams: int, model: str, seconds: float) -> Iterator[list]:
    """Hold `streams` streams open; what the client saw is in the list afterwards."""
    body = json.dumps({"model": model, "stream": True, "messages": [{"role": "user", "content": "hello"}]}).encode()
    seen: list[dict] = []

    def client() -> None:
        seen.append(
            load(
                f"{server.url}/v1/chat/completions", body, headers=HEADERS, concurrency=streams, total=streams,
                connects_per_second=OPENED_A_SECOND, keep_alive=False, seconds=seconds,
            )
        )  # fmt: skip

    thread = threading.Thread(target=client)
    thread.start()
    time.sleep(streams / OPENED_A_SECOND + SETTLE)
    try:
        yield seen
    finally:
        thread.join()


def _lively(server: Server, streams: int) -> list[Row]:
    tokens = int(streams / OPENED_A_SECOND + SETTLE + WATCHED + 10)
    model = f"sim:ttft_ms=1000,interval_ms=1000,tokens={tokens}"
    with _open(server, streams, model, 3.0 * tokens) as seen:
        before, began = cpu_seconds(server.pid), time.monotonic()
        time.sleep(WATCHED)
        cores = (cpu_seconds(server.pid) - before) / (time.monotonic() - began)
    assert seen[0]["completed"] == streams, seen
    late = {name: seen[0]["gap_ms"][name] - 1000.0 for name in ("p50", "p99")}
    return [
        Row("lively: cores used", cores, "≤ 0.8"),
        Row("lively: ms late, median", late["p50"]),
        Row("lively: ms late, p99 (the opening of all included)", late["p99"], "≤ 50"),
    ]


def _idle(server: Server) -> list[Row]:
    with _open(server, 200, "sim:ttft_ms=2000,tokens=1", 60.0):
        pass  # what is made once, such as buffers and caches, is there now
    before = resident_bytes(server.pid)
    with _open(server, IDLE, "sim:ttft_ms=30000,tokens=1", 120.0):
        each = (resident_bytes(server.pid) - before) / IDLE
    return [Row("idle: KiB for each stream", each / KIB, "≤ 48")]


def _gone(server: Server, streams: int) -> list[Row]:
    def pass_by() -> float:
        with _open(server, streams, "sim:ttft_ms=1000,interval_ms=100,tokens=5", 300.0) as seen:
            pass
        assert seen[0]["completed"] == streams, seen
        time.sleep(SETTLE)
        return resident_bytes(server.pid) / KIB / KIB

    first, second = pass_by(), pass_by()
    return [
        Row("gone: MiB resident after a crowd", first),
        Row("gone: MiB more after another", second - first, "no growth"),
    ]
