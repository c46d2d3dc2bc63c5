"""What each tenant has used, over all processes: the `Quota` of a service whose limits are in Redis.

Requests put what they ask into one basket and a task carries it to Redis and back, a basket a round trip, so that an
overload costs one connection and not one for each request. In the same basket go the corrections of those that have
ended: settling never waits. One script decides for one request, all or nothing, by Redis's own clock.

Without Redis each process admits from its share of the rules and says that it is degraded. What it admits meanwhile is
told to Redis afterwards. A basket that got no answer may have been counted or not: it is taken for not counted where
something would be given back twice, so that a few requests of that moment may count twice in the day's amount.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING

from service.runtime.baskets import STREAM_LEASE, Ask, Basket, Carrier
from service.runtime.counts import MemoryQuota
from service.runtime.quota import DAY, Allowance, Amounts, Charge, Rules, over_daily, over_rate, over_streams
from service.runtime.redis_client import FAILURES, PATIENCE, raise_lost_cancellation

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from redis.asyncio import Redis

    from service.runtime.baskets import Stream, Verdict
    from service.runtime.outage import Outage
    from service.runtime.world import World

GATHER = 0.01  # seconds in which corrections gather: nobody waits for them
RETRY = 0.5  # seconds between two attempts to reach a Redis that is gone


class SharedQuota:
    """Admits requests by counts that all processes share.

    Args:
        redis: a client with time limits of its own, such as `redis_client.connect` makes; closed by `close`.
        rules: what each tenant may use, in all processes together.
        processes: how many there are: without Redis each has its share of the rules.
        world: the wall clock, which says what day it is, and the ids of streams.
        outage: where it is told that Redis is gone, and back.
    """

    def __init__(self, redis: Redis, rules: Rules, *, processes: int, world: World, outage: Outage) -> None:
        self._redis = redis
        self._carrier = Carrier(redis, rules)
        self._rules = rules
        self._world = world
        self._outage = outage
        self._alone = MemoryQuota(rules.share(processes), world.now)
        self._basket = Basket()
        self._streams: set[Stream] = set()
        self._news = asyncio.Event()
        self._renewed_at = asyncio.get_running_loop().time()
        self.degraded = False

    async def admit(self, tenant: str, user: str, estimate: Amounts | None) -> Charge:
        """Count a request and reserve what it is expected to use; see `Quota.admit`."""
        loop = asyncio.get_running_loop()
        stream = (tenant, user, self._world.new_id("stream"))
        ask = Ask(stream, estimate, int(self._world.now() // DAY), loop.create_future())
        if self.degraded:
            return await self._admit_alone(ask)
        self._basket.asks.append(ask)
        self._news.set()
        try:
            async with asyncio.timeout(2 * PATIENCE):  # a basket that is under way, and the next one
                verdict = await ask.answer
        except TimeoutError:
            verdict = _answer(ask)
        except asyncio.CancelledError:
            self._undo(ask, _answer(ask))
            raise
        if verdict is None:
            return await self._admit_alone(ask)
        allowance = self._judge(verdict)
        return Charge(allowance, self._closing(ask, estimate or {}))

    async def left(self, tenant: str) -> Amounts:
        """Return which part of each daily amount a tenant has left, in all processes; see `Quota.left`."""
        daily = self._rules.daily
        if daily and not self.degraded:
            today = (tenant, int(self._world.now() // DAY))
            read = self._basket.reads.setdefault(today, asyncio.get_running_loop().create_future())
            self._news.set()
            await asyncio.wait([read], timeout=2 * PATIENCE)  # others wait for it too: it is not cancelled
            if read.done() and (used := read.result()) is not None:
                return {name: 1.0 - used[name] / most for name, most in daily.items()}
        return await self._alone.left(tenant)

    async def run(self) -> None:
        """Carry baskets until cancelled."""
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(RETRY if self.degraded else STREAM_LEASE / 3):
                    await self._news.wait()
            if self.degraded:
                await asyncio.sleep(RETRY)
            await self.round()
            raise_lost_cancellation()

    async def round(self) -> None:
        """Carry what is in the basket; without an answer, let those who ask go on alone and keep what is owed."""
        self._news.clear()
        basket, self._basket = self._basket, Basket()
        reads = list(basket.reads.values())
        now = asyncio.get_running_loop().time()
        renews = self.degraded or now - self._renewed_at >= STREAM_LEASE / 3
        try:
            async with asyncio.timeout(PATIENCE):
                verdicts: Sequence[Verdict | None]
                found: Sequence[Amounts | None]
                verdicts, found = await self._carrier.carry(basket, tuple(self._streams) if renews else ())
        except FAILURES as failure:
            self.degraded = True
            self._outage.begin(self, failure)
            basket.asks += self._basket.asks  # who came meanwhile need not wait for the next one
            self._basket.asks = []
            reads += self._basket.reads.values()
            self._basket.reads = {}
            for (tenant, day), sums in basket.owed.items():
                self._basket.owe(tenant, day, sums)  # streams that ended: their lease does so too
            verdicts, found = [None] * len(basket.asks), [None] * len(reads)
        else:
            self._renewed_at = now if renews else self._renewed_at
            self.degraded = False
            self._outage.end(self)
        for read, used in zip(reads, found, strict=True):
            read.set_result(used)
        for ask, verdict in zip(basket.asks, verdicts, strict=True):
            if not ask.answer.done():
                ask.answer.set_result(verdict)
            else:
                self._undo(ask, verdict)

    async def close(self) -> None:
        """Tell what is still owed and disconnect; call it once nothing runs any more."""
        await self.round()
        await self._redis.aclose()

    # --- inside -------------------------------------------------------------------------------------------------

    def _judge(self, verdict: Verdict) -> Allowance | None:
        """Return what is left of the rate; raise what the script decided."""
        what, left, reset = verdict[0].decode(), verdict[1], verdict[2] / 1e3
        allowance = None if self._rules.requests is None else Allowance(self._rules.requests, max(0, left), reset)
        if what == "rate" and allowance is not None:
            raise over_rate(allowance)
        if what == "streams":
            raise over_streams(allowance)
        if what:
            raise over_daily(what, self._world.now(), allowance)
        return allowance

    async def _admit_alone(self, ask: Ask) -> Charge:
        alone = await self._alone.admit(*ask.stream[:2], ask.estimate)
        told = self._closing(ask, {})

        def close(used: Amounts) -> None:
            alone.settle(used)
            told(used)

        return Charge(alone.allowance, close)

    def _closing(self, ask: Ask, reserved: Amounts) -> Callable[[Amounts], None]:
        """Count the stream as open; return what ends it, replacing in Redis what is `reserved` there."""
        if self._rules.user_streams is not None:
            self._streams.add(ask.stream)

        def close(used: Amounts) -> None:
            names = self._rules.daily
            difference = {name: used.get(name, 0.0) - reserved.get(name, 0.0) for name in names}
            if any(difference.values()):
                self._basket.owe(ask.stream[0], ask.day, difference)
            if ask.stream in self._streams:
                self._streams.remove(ask.stream)
                self._basket.ended.add(ask.stream)
            asyncio.get_running_loop().call_later(GATHER, self._news.set)

        return close

    def _undo(self, ask: Ask, verdict: Verdict | None) -> None:
        """Give back what was reserved for a request that waits for it no more."""
        if verdict is not None and not verdict[0]:
            self._closing(ask, ask.estimate or {})({})


def _answer(ask: Ask) -> Verdict | None:
    return ask.answer.result() if ask.answer.done() and not ask.answer.cancelled() else None
