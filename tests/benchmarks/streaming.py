"""The streaming path against raw ASGI: throughput and CPU for each event, in interleaved rounds.

`python -m tests.benchmarks.streaming [ROUNDS]` measures what the path costs that every token takes: flow, queue,
deadlines, typed events, coalescing; telemetry off, no retrieval, nothing persisted.
"""

from __future__ import annotations

import json
import sys
from contextlib import ExitStack
from statistics import median

from tests.benchmarks.load import load
from tests.benchmarks.measure import Server, cpu_seconds

EVENTS = 200
STREAMS = 300
CONCURRENCY = 16
BODY = b'{"session_id":"s","message":"hello"}'


def once(server: Server) -> tuple[float, float]:
    """Return events a second and microseconds of the server's CPU for each event."""
    before = cpu_seconds(server.pid)
    seen = load(f"{server.url}/chat/stream", BODY, concurrency=CONCURRENCY, total=STREAMS)
    assert seen["completed"] == STREAMS, seen
    return seen["events"] / seen["elapsed"], (cpu_seconds(server.pid) - before) * 1e6 / seen["events"]


def main(rounds: int = 7) -> None:
    """Print a table of medians of ratios with their spread, and the same as JSON."""
    names = ["raw", "path-turn", "path-four", "path-burst"]
    with ExitStack() as stack:
        servers = {name: stack.enter_context(Server(name, str(EVENTS))) for name in names}
        for server in servers.values():
            once(server)
        found = [{name: once(server) for name, server in servers.items()} for _ in range(rounds)]
    table = {}
    for name in names:
        for column, which in (("throughput", 0), ("cpu_per_event", 1)):
            ratios = sorted(one[name][which] / one["raw"][which] for one in found)
            table[f"{name} {column}"] = {"median": median(ratios), "min": ratios[0], "max": ratios[-1]}
    print(f"{'against raw ASGI':28}{'median':>8}{'min':>8}{'max':>8}   ({rounds} rounds of {STREAMS} × {EVENTS} events)")
    for row, ratio in table.items():
        print(f"{row:28}{ratio['median']:8.2f}{ratio['min']:8.2f}{ratio['max']:8.2f}")
    print(json.dumps({"raw_cpu_us_per_event": median(one["raw"][1] for one in found), "ratios": table}))


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
