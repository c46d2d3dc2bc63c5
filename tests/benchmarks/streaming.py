"""The streaming path against raw ASGI: throughput and CPU for each event.

What the path costs that every token takes: flow, queue, deadlines, typed events, coalescing; telemetry off, no
retrieval, nothing persisted. The client never sleeps: on loopback, waking it would be charged to whoever is slower
than it. `turn`: one token in each turn of the loop; `four`: four; `burst`: all at once.
"""

from __future__ import annotations

from contextlib import ExitStack
from functools import partial

from tests.benchmarks.load import load
from tests.benchmarks.measure import Numbers, Server, cpu_seconds, interleaved, ratios, values
from tests.benchmarks.results import Result, Row

EVENTS = 200
STREAMS = 300
CONCURRENCY = 16
BODY = b'{"session_id":"s","message":"hello"}'
RHYTHMS = ("turn", "four", "burst")
GOALS = {
    ("turn", "throughput"): "≥ 0.45 (aim 0.60)",
    ("turn", "CPU per event"): "≤ 2.2 (aim 1.7)",
    ("four", "throughput"): "≥ 0.60",
    ("four", "CPU per event"): "≤ 1.7",
    ("burst", "throughput"): "≥ 1.3",
}


def once(server: Server) -> Numbers:
    """Events a second, and microseconds of the server's CPU for each event."""
    before = cpu_seconds(server.pid)
    seen = load(f"{server.url}/chat/stream", BODY, concurrency=CONCURRENCY, total=STREAMS, spin=True)
    assert seen["completed"] == STREAMS, seen
    return {
        "throughput": seen["events"] / seen["elapsed"],
        "CPU per event": (cpu_seconds(server.pid) - before) * 1e6 / seen["events"],
    }


def run(rounds: int = 7) -> Result:
    """Measure it."""
    names = ["raw-turn", "raw-burst", *(f"path-{rhythm}" for rhythm in RHYTHMS)]
    with ExitStack() as stack:
        servers = {name: stack.enter_context(Server(name, str(EVENTS))) for name in names}
        found = interleaved({name: partial(once, server) for name, server in servers.items()}, rounds)
    rows = [Row("raw ASGI: µs of CPU per event", values(found, "raw-turn", "CPU per event"))]
    rows += [
        Row(f"{rhythm}: {column}, of raw ASGI's", ratios(found, f"path-{rhythm}", "raw-turn", column), goal)
        for (rhythm, column), goal in GOALS.items()
    ]
    about = f"{rounds} rounds of {STREAMS} streams of {EVENTS} events, {CONCURRENCY} at once"
    return Result("The streaming path against raw ASGI", __doc__, about, rows)
