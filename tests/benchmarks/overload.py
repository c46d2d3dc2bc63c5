"""Ten times more turns than there is room for: how quickly the surplus is refused, and what becomes of the rest.

Turns arrive at random moments (Poisson), whether or not others are answered, each on a connection of its own. The room
is that of the places, not of the processor: twelve turns at once, of 0.7 s each. A refusal's time is the
client's: from the start of its connection to the end of the answer. Goodput counts turns that were answered whole.
"""

from __future__ import annotations

import asyncio
import json
import random
import time
from dataclasses import dataclass, field
from functools import partial
from math import ceil
from pathlib import Path

from tests.benchmarks.measure import Numbers, cpu_seconds, interleaved, ratios, resident_bytes, values
from tests.benchmarks.results import Result, Row
from tests.benchmarks.service import KEY, SIMULATED, Forebay

PLACES = 12
TURN = 0.1 + 20 * 0.03  # seconds that the model takes for one answer
ROOM = PLACES / TURN  # turns a second
SECONDS = 10.0
SETTLING = 2.0  # seconds of these that are not counted: the queue fills
LOADS = {"0.8 times": 0.8, "1.5 times": 1.5, "3 times": 3.0, "10 times": 10.0}
CONFIG = f"""
[limits]
requests = {PLACES}
tenant_requests = {PLACES}
queue = {PLACES}
tenant_queue = {PLACES}
{SIMULATED}
"""
BODY = json.dumps({"session_id": "s", "message": "hello", "model": "sim:ttft_ms=100,tokens=20,interval_ms=30"}).encode()
HEAD = f"POST /chat/stream HTTP/1.1\r\nHost: test\r\nAuthorization: Bearer {KEY}\r\nConnection: close\r\n"
REQUEST = f"{HEAD}Content-Type: application/json\r\nContent-Length: {len(BODY)}\r\n\r\n".encode() + BODY


@dataclass
class Seen:
    """What the clients saw of the turns that began in the time that counts. Seconds."""

    offered: int = 0
    completed: int = 0
    refused: list[float] = field(default_factory=list)
    waited: list[float] = field(default_factory=list)  # refused after a wait in the queue, and not at once
    failed: int = 0


async def one(port: int, seen: Seen) -> None:
    """One turn of one client."""
    seen.offered += 1
    began = time.perf_counter()
    try:
        async with asyncio.timeout(30):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(REQUEST)
            answer = await reader.read(-1)
            writer.close()
    except (OSError, TimeoutError):
        seen.failed += 1
        return
    took = time.perf_counter() - began
    if answer.startswith(b"HTTP/1.1 200"):
        seen.completed += b"event: message_completed" in answer
    elif b"queue_full" in answer or b"waiting" in answer:
        seen.refused.append(took)
    else:
        seen.waited.append(took)


async def crowd(port: int, rate: float, seed: int) -> Seen:
    """Let turns arrive at `rate` a second for a while."""
    seen, early, arrivals = Seen(), Seen(), random.Random(seed)
    loop = asyncio.get_running_loop()
    began = at = loop.time()
    async with asyncio.TaskGroup() as group:
        while at < began + SECONDS:
            await asyncio.sleep(at - loop.time())
            group.create_task(one(port, early if at < began + SETTLING else seen))
            at += arrivals.expovariate(rate)
    return seen


def once(server: Forebay, load: float) -> Numbers:
    """One load."""
    before, kept = cpu_seconds(server.pid), kept_waiting(server.pid)
    seen = asyncio.run(crowd(server.port, load * ROOM, seed=round(load * 10)))
    counted = SECONDS - SETTLING
    refused = sorted(seen.refused)
    return {
        "offered": seen.offered / counted,
        "goodput": seen.completed / counted,
        "refused": len(refused) / counted,
        "p50": _quantile(refused, 0.5) * 1e3,
        "p99": _quantile(refused, 0.99) * 1e3,
        "slowest": _quantile(refused, 1.0) * 1e3,
        "refused after a wait": len(seen.waited) / counted,
        "failed": float(seen.failed),
        "cores": (cpu_seconds(server.pid) - before) / SECONDS,
        "kept waiting": (kept_waiting(server.pid) - kept) / SECONDS,
        "memory": resident_bytes(server.pid) / 2**20,
    }


def kept_waiting(pid: int) -> float:
    """Return the seconds in which a process could have run and another had the processor, as Linux counts them."""
    return int(Path(f"/proc/{pid}/schedstat").read_text().split()[1]) / 1e9


def _quantile(ordered: list[float], share: float) -> float:
    return ordered[max(0, ceil(share * len(ordered)) - 1)] if ordered else 0.0


def run(rounds: int = 3) -> Result:
    """Measure it."""
    with Forebay(CONFIG) as server:
        found = interleaved({name: partial(once, server, load) for name, load in LOADS.items()}, rounds)
    for one_round in found:  # the peak of each round, whichever load it was at
        one_round["peak"] = {"goodput": max(numbers["goodput"] for numbers in one_round.values())}
    most = "10 times"
    rows = [Row(f"{name} the room: turns a second answered whole", values(found, name, "goodput")) for name in LOADS]
    rows += [
        Row("10 times the room: goodput, of its peak", ratios(found, most, "peak", "goodput"), "≥ 0.9"),
        Row("10 times the room: refused a second", values(found, most, "refused")),
        Row("10 times the room: ms until refused, median", values(found, most, "p50")),
        Row("10 times the room: ms until refused, 99th percentile", values(found, most, "p99"), "< 20"),
        Row("10 times the room: ms until refused, the slowest", values(found, most, "slowest")),
        Row("10 times the room: refused a second after a wait", values(found, most, "refused after a wait")),
        Row("10 times the room: connections that failed", values(found, most, "failed"), "0"),
        Row("10 times the room: cores that the service used", values(found, most, "cores")),
        Row(
            "10 times the room: share of the time that it waited for one, others having it",
            values(found, most, "kept waiting"),
            "0, or the rest says little",
        ),
        Row(
            "MiB of memory after 0.8 times, after 10 times",
            f"{values(found, '0.8 times', 'memory')}, {values(found, most, 'memory')}",
        ),
    ]
    about = f"{rounds} rounds of {SECONDS:.0f} s for each load; {PLACES} places: room for {ROOM:.0f} turns a second"
    return Result("Overload", __doc__, about, rows)
