"""Memory: what a stream that waits takes, and what is left when many have come and gone.

`idle`: streams that wait for their first token, sampled out; resident memory of the process for each, without the
kernel's buffers. `gone`: resident memory after ten thousand streams were opened and closed, and after as many again.
"""

from __future__ import annotations

import json
import time
from itertools import pairwise

from tests.benchmarks.load import load
from tests.benchmarks.many import SETTLE, opened
from tests.benchmarks.measure import Server, resident_bytes
from tests.benchmarks.results import Result, Row
from tests.benchmarks.service import HEADERS, SIMULATED, WIDE, Forebay, traced

IDLE = 2_000
GONE, AT_ONCE = 10_000, 500
PASSES = 3
KIB = 1024
PASSING = "sim:ttft_ms=20,interval_ms=20,tokens=5"


def run() -> Result:
    """Measure it."""
    with Server("collector") as collector, Forebay(traced(collector.url, 0.0) + WIDE + SIMULATED) as server:
        rows = [Row("idle: KiB for each stream", _idle(server), "≤ 48")]
        left = [_gone(server) for _ in range(PASSES)]
    rows += [
        Row(f"gone: MiB resident after {GONE} streams", left[0]),
        *(Row(f"gone: MiB more after {GONE} more", late - early) for early, late in pairwise(left)),
        Row("gone: KiB kept of each stream, in the last pass", (left[-1] - left[-2]) * KIB / GONE, "≤ 0.1"),
    ]
    return Result("Memory", __doc__, f"{IDLE} idle streams; {PASSES} times {GONE} streams, {AT_ONCE} at once", rows)


def _idle(server: Server) -> float:
    """KiB of each stream that waits."""
    with opened(server, 500, "sim:ttft_ms=4000,tokens=1", 60.0):
        pass  # what is made once, such as buffers and caches, is there now
    before = resident_bytes(server.pid)
    with opened(server, IDLE, "sim:ttft_ms=30000,tokens=1", 120.0):
        return (resident_bytes(server.pid) - before) / IDLE / KIB


def _gone(server: Server) -> float:
    """MiB that are resident once all have gone."""
    body = json.dumps({"model": PASSING, "stream": True, "messages": [{"role": "user", "content": "hello"}]}).encode()
    seen = load(
        f"{server.url}/v1/chat/completions", body, headers=HEADERS, concurrency=AT_ONCE, total=GONE, keep_alive=False,
        seconds=120.0,
    )  # fmt: skip
    assert seen["completed"] == GONE, seen
    time.sleep(SETTLE)
    return resident_bytes(server.pid) / KIB / KIB
