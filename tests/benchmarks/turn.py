"""A full chat turn on the embedded default: what it costs beyond its tokens, and where that goes.

Policy, SQLite, BM25, rerank, persist, full telemetry with traces at 0.1; a model that says one token at once, in a
session that is full. The table of parts is the main thread's profile, scaled to what that thread takes without one;
threads and child processes are counted by the kernel.
"""

from __future__ import annotations

import json
import pstats
import re
import tempfile
from collections import Counter
from contextlib import ExitStack
from functools import partial
from pathlib import Path

from tests.benchmarks.load import load
from tests.benchmarks.measure import Numbers, Server, cpu_seconds, interleaved, thread_seconds, values
from tests.benchmarks.results import Result, Row
from tests.benchmarks.service import HEADERS, SIMULATED, WIDE, Forebay, traced

TURNS = 300
CONCURRENCY = 8
BODY = json.dumps(
    {"session_id": "s", "message": "What is case C-1042 about?", "model": "sim:ttft_ms=0,interval_ms=0,tokens=1"}
).encode()

# Whose code it is, by its path; the first that fits.
PARTS = {
    "telemetry": r"/telemetry/|opentelemetry|prometheus_client|structlog|/logging/|importlib_metadata",
    "HTTP: server, framework, door": r"uvicorn|starlette|fastapi|/service/(api|server|auth)|httptools|anyio",
    "flow, phases, places": r"/service/chat/|/service/runtime/|/service/routing|/service/plan",
    "state database": r"/service/store/|sqlite3|aiosqlite|sqlalchemy",
    "policy": r"/service/policy/|cedar",
    "retrieval and rerank": r"/service/retrieval/",
    "model": r"/service/providers/",
    "validation and JSON": r"pydantic|msgspec|/json/",
    "event loop and the rest": r"",
}


def once(server: Server) -> Numbers:
    """Milliseconds of CPU for each turn: all of it, and its main thread's, other threads' and children's parts."""
    before = cpu_seconds(server.pid), cpu_seconds(server.pid, children=False), thread_seconds(server.pid)
    seen = load(f"{server.url}/chat/stream", BODY, headers=HEADERS, concurrency=CONCURRENCY, total=TURNS)
    assert seen["completed"] == TURNS, seen
    after = cpu_seconds(server.pid), cpu_seconds(server.pid, children=False), thread_seconds(server.pid)
    tree, process, main = ((late - early) * 1e3 / TURNS for early, late in zip(before, after, strict=True))
    return {"all": tree, "main": main, "threads": process - main, "children": tree - process}


def run(rounds: int = 5) -> Result:
    """Measure it."""
    with ExitStack() as stack:
        collector = stack.enter_context(Server("collector"))
        config = traced(collector.url, 0.1) + WIDE + SIMULATED
        servers = {
            "full": stack.enter_context(Forebay(config)),
            "off": stack.enter_context(Forebay(config, telemetry="off")),
        }
        found = interleaved({name: partial(once, server) for name, server in servers.items()}, rounds)
        shares = _shares(config)
    main = values(found, "full", "main")
    rows = [
        Row("ms of CPU per turn", values(found, "full", "all"), "≤ 10"),
        Row("the same without telemetry", values(found, "off", "all")),
        Row("other threads: SQLite, index, log, export", values(found, "full", "threads")),
        Row("child processes: rerank", values(found, "full", "children")),
        Row("main thread", main),
        *(Row(f"of it: {part}", share * main.median) for part, share in shares.items()),
    ]
    about = f"{rounds} rounds of {TURNS} turns, {CONCURRENCY} at once; 20 messages of history"
    return Result("A full chat turn beyond its tokens", __doc__, about, rows)


def _shares(config: str) -> dict[str, float]:
    """Which part of the main thread's time each kind of code takes."""
    with tempfile.TemporaryDirectory() as folder:
        with Forebay(config, telemetry="profiled", folder=Path(folder)) as server:
            once(server)
            once(server)
        profile = pstats.Stats(str(Path(folder) / "profile"))
    taken: Counter[str] = Counter()
    for (path, _, name), (_, _, own, _, callers) in profile.stats.items():
        if name == "run" and "asyncio/runners" in path:
            continue  # the loop itself: waiting, and what it does in C
        if path == "~":  # a function in C belongs to who called it
            for (caller, _, _), (_, _, its, _) in callers.items():
                taken[_part(caller)] += its
        else:
            taken[_part(path)] += own
    return {part: taken[part] / taken.total() for part in PARTS}


def _part(path: str) -> str:
    return next(part for part, pattern in PARTS.items() if re.search(pattern, path))
