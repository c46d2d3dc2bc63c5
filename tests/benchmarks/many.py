"""Many open streams that say little, on one worker: each one token a second, and how late the tokens are.

A stream is opened through `/v1/chat/completions`, with full telemetry and traces at 0.1. How late a token is, is the
time between two of them beyond that second, as the client sees it, while all streams are open.
"""

from __future__ import annotations

import json
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

from tests.benchmarks.load import load
from tests.benchmarks.measure import Server, cpu_seconds
from tests.benchmarks.results import Result, Row
from tests.benchmarks.service import HEADERS, SIMULATED, WIDE, Forebay, traced

if TYPE_CHECKING:
    from collections.abc import Iterator

STREAMS = (100, 1_000, 10_000)
OPENED_A_SECOND = 130.0  # half a core is left for what is open already
SETTLE = 3.0  # seconds between the last stream opened and the measurement
WATCHED = 15.0  # seconds of it
GOALS = {"cores used": "≤ 0.8", "ms late, p99": "≤ 50"}  # of the most streams


def run(crowds: tuple[int, ...] = STREAMS) -> Result:
    """Measure it. The goals are for 10,000 streams; a machine that has no core to spare can be given fewer."""
    rows: list[Row] = []
    for streams in crowds:
        with Server("collector") as collector, Forebay(traced(collector.url, 0.1) + WIDE + SIMULATED) as server:
            found = _lively(server, streams)
        goals = GOALS if streams == STREAMS[-1] else {}
        rows += [Row(f"{streams} streams: {what}", number, goals.get(what, "")) for what, number in found.items()]
    return Result("Many open streams", __doc__, f"One run, {WATCHED:.0f} s of each crowd", rows)


@contextmanager
def opened(server: Server, streams: int, model: str, seconds: float) -> Iterator[list[dict]]:
    """Hold `streams` streams open, the block run once they are; what the client saw is in the list afterwards."""
    body = json.dumps({"model": model, "stream": True, "messages": [{"role": "user", "content": "hello"}]}).encode()
    seen: list[dict] = []
    until_open = streams / OPENED_A_SECOND + SETTLE

    def client() -> None:
        seen.append(
            load(
                f"{server.url}/v1/chat/completions", body, headers=HEADERS, concurrency=streams, total=streams,
                connects_per_second=OPENED_A_SECOND, keep_alive=False, seconds=seconds, late_after=until_open,
                late_for=WATCHED,
            )
        )  # fmt: skip

    thread = threading.Thread(target=client)
    thread.start()
    time.sleep(until_open)
    try:
        yield seen
    finally:
        thread.join()


def _lively(server: Server, streams: int) -> dict[str, float]:
    tokens = int(streams / OPENED_A_SECOND + SETTLE + WATCHED + 2)
    with opened(server, streams, f"sim:ttft_ms=1000,interval_ms=1000,tokens={tokens}", 3.0 * tokens) as seen:
        before, began = cpu_seconds(server.pid), time.monotonic()
        time.sleep(WATCHED)
        cores = (cpu_seconds(server.pid) - before) / (time.monotonic() - began)
    assert seen[0]["completed"] == seen[0]["open_most"] == streams, seen
    late = {f"ms late, {name}": seen[0]["gap_ms"][name] - 1000.0 for name in ("p50", "p99")}
    return {
        "cores used": cores,
        "µs of CPU for each token (80 are 0.8 of a core for 10,000 streams)": cores / streams * 1e6,
        **late,
    }
