"""What a step costs as the work grows: tenants at a gate, documents in the index, messages in a session.

Each number is the CPU of one step in microseconds, threads included. A place and a history should cost the same at
every size, but for the processor's caches; a search reads what matches its words, which grows with the documents. (How
it is with ever more streams is in the benchmark of many.)
"""

from __future__ import annotations

import asyncio
import tempfile
import time
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING

from service.ports import Document, Ending, NewTurn, Scope
from service.retrieval.fts import FtsRetriever
from service.runtime.gate import Gate
from service.runtime.world import real_world
from service.store import migrate, open_store
from tests.benchmarks.results import Result, Row
from tests.benchmarks.silent import Silent

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

TENANTS = (10, 100, 1_000, 10_000)
DOCUMENTS = (1_000, 10_000, 100_000)
MESSAGES = (10, 100, 1_000)
WORDS = [f"word{number}" for number in range(2_000)]


def run() -> Result:
    """Measure it."""
    about = "One run; the best of seven times, of two hundred steps each (searches: twenty)"
    return Result("As the work grows", __doc__, about, asyncio.run(_all()))


async def _all() -> list[Row]:
    return [
        *await _each("a place granted, of a gate at which {} tenants wait", _gate, TENANTS, "≤ 3"),
        *await _each("a search among {} documents", _search, DOCUMENTS, "≤ 100"),
        *await _each("the last 20 messages of a session of {}", _history, MESSAGES, "≤ 3"),
    ]


async def _each(what: str, measure: Callable[[int], Awaitable[float]], sizes: Sequence[int], at_most: str) -> list[Row]:
    """Measure each size; how many times as much the largest may cost as the smallest is `at_most`."""
    took = {size: await measure(size) for size in sizes}
    rows = [Row(f"{what.format(f'{size:,}')}: µs", microseconds) for size, microseconds in took.items()]
    factor = took[sizes[-1]] / took[sizes[0]]
    return [*rows, Row(f"… {sizes[-1] // sizes[0]:,} times as many cost so many times as much", factor, at_most)]


async def _best(step: Callable[[], Awaitable[object]], times: int = 200) -> float:
    best = float("inf")
    for _ in range(7):
        began = time.process_time()
        for _ in range(times):
            await step()
        best = min(best, (time.process_time() - began) / times)
    return best * 1e6


async def _gate(tenants: int) -> float:
    """One place is given back, the next tenant has it, and stands in line again."""
    gate = Gate("requests", 1, queue=10 * tenants, observer=Silent(), tenant_limit=1)
    holding = await gate.acquire("first")
    waiting = [asyncio.ensure_future(gate.acquire(f"tenant-{number}")) for number in range(tenants)]
    await asyncio.sleep(0)
    turn = iter(range(10**9))

    async def step() -> None:
        nonlocal holding
        number = next(turn) % tenants
        holding.release()
        holding = await waiting[number]
        waiting[number] = asyncio.ensure_future(gate.acquire(f"tenant-{number}"))
        await asyncio.sleep(0)

    took = await _best(step)
    for one in waiting:
        one.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)
    return took


async def _search(documents: int) -> float:
    """One question of four words, five passages wanted."""
    chance = Random(0)
    with tempfile.TemporaryDirectory() as folder:
        retriever = FtsRetriever(Path(folder) / "index.db")
        await retriever.open()
        labels = frozenset({"all"})
        for start in range(0, documents, 1_000):
            numbers = range(start, min(start + 1_000, documents))
            texts = {number: " ".join(chance.choices(WORDS, k=60)) for number in numbers}
            await retriever.add_documents(
                "t", [Document(f"d{number}", f"title {number}", text, "t", labels) for number, text in texts.items()]
            )
        scope = Scope("t", labels)
        took = await _best(lambda: retriever.query(" ".join(chance.choices(WORDS, k=4)), scope, 5), 20)
        await retriever.close()
    return took


async def _history(messages: int) -> float:
    """What context.load reads."""
    with tempfile.TemporaryDirectory() as folder:
        url = f"sqlite:///{folder}/state.db"
        migrate(url)
        store = await open_store(url, real_world(), Silent())
        for number in range(messages // 2):
            new = NewTurn(
                tenant="t", user="u", session_id="s", user_message_id=f"u{number}", message_id=f"a{number}",
                question="What is it about?", model="m", instance_id="i", now=float(number), once=None,
            )  # fmt: skip
            await store.begin_turn(new)
            await store.end_turn(Ending(f"a{number}", "completed", now=float(number), text="It is about words. " * 20))
        took = await _best(lambda: store.history("t", "u", "s", 20))
        await store.close()
    return took
