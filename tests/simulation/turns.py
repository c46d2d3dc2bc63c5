"""A storm of turns: hundreds of clients of several tenants upon one service, in weather that changes, all of one seed.

Whatever one seed draws, the invariants of the contract hold at every look, and every client is served to an end.
"""

from __future__ import annotations

import asyncio
import random

from service.errors import Cause, RetrievalFailed
from service.providers.rows import ProviderRow
from tests.flow.house import House
from tests.virtual_loop import run

KEYS = ("Bearer ben", "Bearer ben", "Bearer eve", "Bearer eve", "Bearer nil", "Bearer nobody")
ROWS = (
    ProviderRow("simulated", "simulated", ("sim",), fallback="backup"),
    ProviderRow("backup", "simulated", ("spare",), approved_fallback=True),
)
CALM = 400.0  # seconds: a client that takes ten of them for each write has an end by then


class Storm:
    """One run. `draw` is all of its chance, apart from the order of what happens at one moment."""

    def __init__(self, seed, turns=200):
        self.seed, self.turns = seed, turns
        self.draw = random.Random(seed)
        self.house = House(
            seed,
            rows=ROWS,
            budgets={"total": self.draw.choice([6.0, 25.0])},
            queue=self.draw.choice([3, 40, 400]),
            tenant_limit=self.draw.choice([10, 30, 200]),
            stream_queue=self.draw.choice([1, 2, 8, 64]),
        )
        for name, most in (("requests", 80), ("retrieval", 10), ("rerank", 3), ("model:simulated", 50)):
            self.house.gates[name].set_limit(self.draw.randint(max(1, most // 16), most))

    def run(self):
        """Let it rage; return the house, in which nothing may be left."""
        run(self._rage(), seed=self.seed)
        return self.house

    async def _rage(self):
        house, draw = self.house, self.draw
        await house.open()
        around = [asyncio.create_task(work()) for work in (self._weather, self._stop_some, self._look)]
        served = []
        for number in range(self.turns):
            served.append(house.connect(self._client(number)))
            if draw.random() < 0.8:
                await asyncio.sleep(draw.expovariate(8))
        async with asyncio.timeout(CALM):  # liveness: everybody is served to an end
            await asyncio.gather(*served)
        for task in around:
            task.cancel()
        for ended in await asyncio.gather(*around, return_exceptions=True):
            if not isinstance(ended, asyncio.CancelledError):
                raise ended
        await self._clear_up()
        house.assert_at_rest()
        self._assert_told_as_stored()
        await house.close()

    # --- what comes upon it -------------------------------------------------------------------------------------

    def _client(self, number):
        draw = self.draw
        client = self.house.client(
            draw.choice(["What is case C-1042 about?", "Who sold the Lumen 20?", "xylophone"]),
            model=self._model(),
            session=f"s{draw.randint(0, 20)}",
            ask=draw.choice([{}, {}, {"grounding": "required"}]),
            key=self._seldom("Bearer ann", *KEYS),
            headers=self._headers(number),
            pause=draw.choice([0.0, 0.0, 0.0, 0.05, 0.5]),
            stops_reading_after=draw.randint(0, 5) if draw.random() < 0.04 else None,
            body_delay=draw.choice([0.0, 0.0, 0.3]),
        )
        if draw.random() < 0.25:
            client.leave_in(draw.choice([draw.uniform(0, 0.02), draw.uniform(0, 1), draw.uniform(0, 10)]))
        return client

    def _headers(self, number):
        draw, headers = self.draw, {}
        if draw.random() < 0.2:
            headers["x-request-timeout-ms"] = str(draw.choice([1, 100, 1_000, 5_000]))
        if draw.random() < 0.1:
            headers["x-forebay-debug"] = "phases"
        if draw.random() < 0.1:
            headers["idempotency-key"] = f"key-{number % 7}"
        return headers

    def _model(self):
        draw = self.draw
        given = [f"ttft_ms={draw.choice([0, 50, 300, 4_000])}", f"interval_ms={draw.choice([0, 1, 20, 100])}"]
        given.append(f"tokens={draw.randint(1, 80)}")
        if draw.random() < 0.4:
            trouble = draw.choice(["fail_at", "stall_at", "garbage_at", "fail_times"])
            given.append(f"{trouble}={draw.randint(0, 4)}")
            if trouble.startswith("fail"):
                given.append(f"status={draw.choice([400, 429, 500, 503])}")
        return f"sim:{','.join(given)}"

    async def _weather(self):
        """Let parts be slow or broken for a while, one after another."""
        house, draw = self.house, self.draw
        while True:
            await asyncio.sleep(draw.expovariate(1))
            house.conditions.wait = house.conditions.commit = self._seldom(0.001, 0.05, 0.3)
            house.conditions.failing = self._seldom(0.0, 0.2)
            house.conditions.down = draw.random() < 0.03
            house.policy.becomes(self._seldom(0.0, 0.05, 0.3), only="scope")
            house.retriever.becomes(self._seldom(0.0, 0.2, 3.0), self._seldom(None, RetrievalFailed))
            house.reranker.becomes(self._seldom(0.0, 0.1, 1.0), self._seldom(None, RetrievalFailed))

    def _seldom(self, usual, *other):
        return usual if self.draw.random() < 0.85 else self.draw.choice(other)

    async def _stop_some(self):
        """Cancel turns from another connection; now and then shut down whatever is open."""
        while True:
            await asyncio.sleep(self.draw.expovariate(1))
            open_turns = list(self.house.parts.live)
            if open_turns:
                cause = Cause.SHUTDOWN if self.draw.random() < 0.1 else Cause.CLIENT_CANCEL
                self.draw.choice(open_turns).cancel(cause)

    # --- what must hold -----------------------------------------------------------------------------------------

    async def _look(self):
        while True:
            self.house.assert_sums()
            await asyncio.sleep(self.draw.expovariate(2))

    async def _clear_up(self):
        """In good weather again, write the endings that could not be written."""
        house = self.house
        house.conditions.wait = house.conditions.commit = 0.001
        house.conditions.failing, house.conditions.down = 0.0, False
        while house.parts.unsettled:
            await house.store.end_turn(house.parts.unsettled.pop())
        assert "streaming" not in house.statuses(), "in the end every turn is settled"

    def _assert_told_as_stored(self):
        """Invariant 3: what was told as completed is stored as completed, with the text that was told."""
        stored = dict(self.house.driver._db.execute("SELECT message_id, text FROM messages WHERE status = 'completed'"))
        for client in self.house.clients:
            if client.status == 200 and client.ended and client.types[-1] == "message_completed":
                assert stored[client.event("message_completed")["message_id"]] == client.text
