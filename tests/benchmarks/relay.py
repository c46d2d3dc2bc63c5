"""Forebay as a relay against a bare one: the same upstream, 100 chunks, through `/v1/chat/completions`.

Ours with everything on: full metrics and logs, limits, a persisted transcript, traces at 0.1 and at 1.0. The bare relay
is FastAPI and aiohttp, what a developer writes in ten minutes. CPU is the server's for each stream; time to the first
token is what the relay adds to the upstream's own, at one stream at a time.
"""

from __future__ import annotations

import json
from contextlib import ExitStack
from functools import partial

from tests.benchmarks.load import load
from tests.benchmarks.measure import Numbers, Rounds, Server, cpu_seconds, interleaved, ratios, spread, values
from tests.benchmarks.peers import litellm
from tests.benchmarks.results import Result, Row
from tests.benchmarks.service import HEADERS, WIDE, Forebay, traced, upstream

CONCURRENCIES = {1: 60, 32: 320, 128: 640}  # streams at once, and in all
SETS = 4  # processes of one program differ by some 5 %, however long they are measured (see observing.py)
MODEL = "small"
BODY = json.dumps(
    {"model": MODEL, "stream": True, "messages": [{"role": "user", "content": "Say something in a hundred words."}]}
).encode()
CPU, FIRST = "CPU", "first"


def once(server: Server, concurrency: int, total: int) -> Numbers:
    """Milliseconds of the server's CPU for each stream, and to the first token at the median."""
    before = cpu_seconds(server.pid)
    seen = load(
        f"{server.url}/v1/chat/completions", BODY, headers=HEADERS, concurrency=concurrency, total=total,
        first='"content":"token', seconds=120.0,
    )  # fmt: skip
    assert seen["completed"] == total, seen
    return {CPU: (cpu_seconds(server.pid) - before) * 1e3 / total, FIRST: seen["first_ms"]["p50"]}


def run(rounds: int = 3, *, with_peers: bool = False) -> Result:
    """Measure it, beside LiteLLM if wanted: so many rounds with each set of servers."""
    found: dict[int, Rounds] = {concurrency: [] for concurrency in CONCURRENCIES}
    for _ in range(SETS):
        for concurrency, of_it in _found(rounds, with_peers=with_peers).items():
            found[concurrency] += of_it
    rows = [row for concurrency, of_it in found.items() for row in _cpu(concurrency, of_it, with_peers=with_peers)]
    about = f"{SETS} sets of servers, {rounds} rounds with each; " + ", ".join(
        f"{total} streams at {at}" for at, total in CONCURRENCIES.items()
    )
    title = "As a relay, beside LiteLLM" if with_peers else "As a relay"
    return Result(title, __doc__, about, [*rows, *_first(found[1], with_peers=with_peers)])


def _found(rounds: int, *, with_peers: bool) -> dict[int, Rounds]:
    """Measure at each concurrency, on servers that have served nothing yet."""
    with ExitStack() as stack:
        provider = stack.enter_context(Server("upstream"))
        collector = stack.enter_context(Server("collector"))
        ours = upstream(provider.url) + WIDE
        servers = {
            "upstream": provider,
            "bare": stack.enter_context(Server("relay", provider.url)),
            "0.1": stack.enter_context(Forebay(traced(collector.url, 0.1) + ours)),
            "1.0": stack.enter_context(Forebay(traced(collector.url, 1.0) + ours)),
        }
        if with_peers:
            servers["LiteLLM"] = stack.enter_context(litellm(provider.url, MODEL))
        return {
            concurrency: interleaved(
                {name: partial(once, server, concurrency, _total(name, total)) for name, server in servers.items()},
                rounds,
            )
            for concurrency, total in CONCURRENCIES.items()
        }


def _total(name: str, total: int) -> int:
    """So many streams in all: a fifth of them for what takes fifty times as long."""
    return total // 5 if name == "LiteLLM" else total


def _cpu(concurrency: int, found: Rounds, *, with_peers: bool) -> list[Row]:
    at = f"{concurrency} at once: "
    rows = [
        Row(at + "ms of CPU per stream, bare relay", values(found, "bare", CPU)),
        Row(at + "ms of CPU per stream, Forebay at 0.1", values(found, "0.1", CPU)),
        Row(at + "Forebay at 0.1, of the bare relay's CPU", ratios(found, "0.1", "bare", CPU), "≤ 2"),
        Row(at + "Forebay at 1.0, of the bare relay's CPU", ratios(found, "1.0", "bare", CPU)),
    ]
    if with_peers:
        rows += [
            Row(at + "ms of CPU per stream, LiteLLM", values(found, "LiteLLM", CPU)),
            Row(at + "Forebay at 0.1, of LiteLLM's CPU", ratios(found, "0.1", "LiteLLM", CPU), "≤ 0.05"),
        ]
    return rows


def _first(found: Rounds, *, with_peers: bool) -> list[Row]:
    def added(name: str) -> list[float]:
        return [one[name][FIRST] - one["upstream"][FIRST] for one in found]

    rows = [
        Row("added ms to the first token, bare relay", spread(added("bare"))),
        Row("added ms to the first token, Forebay at 0.1", spread(added("0.1")), "≤ 2"),
    ]
    if with_peers:
        parts = [ours / theirs for ours, theirs in zip(added("0.1"), added("LiteLLM"), strict=True)]
        rows += [
            Row("added ms to the first token, LiteLLM", spread(added("LiteLLM"))),
            Row("Forebay's added time to first token, of LiteLLM's", spread(parts), "≤ 0.1"),
        ]
    return rows
