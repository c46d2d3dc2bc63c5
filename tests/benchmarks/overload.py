"""Ten times more turns than there is room for: how quickly the surplus is refused, and what becomes of the rest.

Turns arrive at random moments (Poisson), whether or not others are answered, each on a connection of its own. The room
is that of the places, not of the processor: twelve turns at once, of 0.4 to 1 s. A refusal's time is the client's: from
the start of its connection to the end of the answer. Goodput counts turns that were answered whole. The CPU of a
refusal is what ten times the room costs more than one and a half times, where the places are as full. In the storm 500
clients come again as soon as they are refused: all that one core can do.
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

from tests.benchmarks.load import load
from tests.benchmarks.measure import Numbers, Rounds, cpu_seconds, interleaved, ratios, resident_bytes, spread, values
from tests.benchmarks.results import Result, Row
from tests.benchmarks.service import HEADERS, KEY, SIMULATED, Forebay

PLACES = 12
TOKENS = range(10, 31)  # turns of one length would fall in step, twelve ends and beginnings in every 0.7 s
TURN = 0.1 + 20 * 0.03  # seconds that the model takes for one answer, on average
ROOM = PLACES / TURN  # turns a second
SECONDS = 10.0
SETTLING = 2.0  # seconds of these that are not counted: the queue fills
FULL, MOST = "1.5 times", "10 times"
LOADS = {"0.8 times": 0.8, FULL: 1.5, MOST: 10.0, "30 times": 30.0}
STORM = 500  # clients
CONFIG = f"""
[limits]
requests = {PLACES}
tenant_requests = {PLACES}
queue = {PLACES}
tenant_queue = {PLACES}
{SIMULATED}
"""
HEAD = f"POST /chat/stream HTTP/1.1\r\nHost: test\r\nAuthorization: Bearer {KEY}\r\nConnection: close\r\n"


def body(tokens: int) -> bytes:
    """What a client asks for: an answer of so many tokens."""
    model = f"sim:ttft_ms=100,tokens={tokens},interval_ms=30"
    return json.dumps({"session_id": "s", "message": "hello", "model": model}).encode()


def request(tokens: int) -> bytes:
    """The whole request."""
    asked = body(tokens)
    return f"{HEAD}Content-Type: application/json\r\nContent-Length: {len(asked)}\r\n\r\n".encode() + asked


@dataclass
class Seen:
    """What the clients saw of the turns that began in the time that counts. Seconds."""

    offered: int = 0
    completed: int = 0
    refused: list[float] = field(default_factory=list)
    waited: list[float] = field(default_factory=list)  # refused after a wait in the queue, and not at once
    failed: int = 0


async def one(port: int, asked: bytes, seen: Seen) -> None:
    """One turn of one client."""
    seen.offered += 1
    began = time.perf_counter()
    try:
        async with asyncio.timeout(30):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(asked)
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
            asked = request(arrivals.choice(TOKENS))
            group.create_task(one(port, asked, early if at < began + SETTLING else seen))
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


def storm(server: Forebay) -> Numbers:
    """All that come at once, and again as soon as they are refused."""
    before = cpu_seconds(server.pid)
    seen = load(
        f"{server.url}/chat/stream",
        body(20),
        headers={**HEADERS, "Connection": "close"},
        concurrency=STORM,
        total=10_000_000,
        keep_alive=False,
        seconds=SECONDS,
    )
    return {
        "goodput": seen["completed"] / SECONDS,
        "refused": seen["refused"] / SECONDS,
        "failed": float(seen["failed"] - seen["refused"]),
        "cores": (cpu_seconds(server.pid) - before) / SECONDS,
        "memory": resident_bytes(server.pid) / 2**20,
    }


def refusal_ms(full: Numbers, most: Numbers) -> float:
    """CPU of a refusal in ms: what differs between two loads at both of which the places are full."""
    return 1e3 * (most["cores"] - full["cores"]) / (most["refused"] - full["refused"])


def kept_waiting(pid: int) -> float:
    """Return the seconds in which a process could have run and another had the processor, as Linux counts them."""
    return int(Path(f"/proc/{pid}/schedstat").read_text().split()[1]) / 1e9


def _quantile(ordered: list[float], share: float) -> float:
    return ordered[max(0, ceil(share * len(ordered)) - 1)] if ordered else 0.0


def run(rounds: int = 3) -> Result:
    """Measure it."""
    with Forebay(CONFIG) as server:
        measured = {name: partial(once, server, times) for name, times in LOADS.items()}
        found = interleaved({**measured, "storm": partial(storm, server)}, rounds)
    for one_round in found:  # the peak of each round, whichever load it was at
        one_round["peak"] = {"goodput": max(numbers["goodput"] for numbers in one_round.values())}
        one_round["refusal"] = {"ms": refusal_ms(one_round[FULL], one_round[MOST])}
    about = f"{rounds} rounds of {SECONDS:.0f} s for each load; {PLACES} places: room for {ROOM:.0f} turns a second"
    return Result("Overload", __doc__, about, [*_of_the_goals(found), *_beyond(found)])


def _of_the_goals(found: Rounds) -> list[Row]:
    """What is seen at ten times the room."""

    def row(what: str, column: str, goal: str = "") -> Row:
        return Row(f"{MOST} the room: {what}", values(found, MOST, column), goal)

    return [
        *(Row(f"{name} the room: turns a second answered whole", values(found, name, "goodput")) for name in LOADS),
        Row(f"{MOST} the room: goodput, of its peak", ratios(found, MOST, "peak", "goodput"), "≥ 0.9"),
        row("refused a second", "refused"),
        row("ms until refused, median", "p50"),
        row("ms until refused, 99th percentile", "p99", "< 20"),
        row("ms until refused, the slowest", "slowest"),
        row("refused a second after a wait", "refused after a wait"),
        row("connections that failed", "failed", "≤ 0"),
        row("cores that the service used", "cores"),
        row(
            "share of the time that it waited for one (much of it, and nothing timed here is worth much)",
            "kept waiting",
        ),
        Row("CPU of a refusal, in ms", values(found, "refusal", "ms")),
    ]


def _beyond(found: Rounds) -> list[Row]:
    """What is seen where one core has no more to give."""
    most = "30 times"
    enough = spread(
        (one[MOST]["offered"] + (1 - one[MOST]["cores"]) * 1e3 / one["refusal"]["ms"]) / ROOM for one in found
    )
    memory = ", ".join(str(values(found, name, "memory")) for name in ("0.8 times", MOST, "storm"))
    return [
        Row(f"{most} the room: ms until refused, median", values(found, most, "p50")),
        Row(f"{most} the room: ms until refused, 99th percentile", values(found, most, "p99")),
        Row(f"{most} the room: goodput, of its peak", ratios(found, most, "peak", "goodput")),
        Row("times the room at which one core has no time left, by the CPU of a refusal", enough),
        Row("storm: refused a second", values(found, "storm", "refused")),
        Row("storm: goodput, of its peak", ratios(found, "storm", "peak", "goodput")),
        Row("storm: connections that failed", values(found, "storm", "failed"), "≤ 0"),
        Row("storm: cores that the service used", values(found, "storm", "cores")),
        Row(f"MiB of memory after 0.8 times, {MOST}, the storm", memory),
    ]
