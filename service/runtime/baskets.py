"""What goes to Redis for `shared_counts.py`, and how: all that gathers in a moment in one round trip.

One script decides for one request, all or nothing, by Redis's own clock. Keys of one tenant share a hash tag, so that
they are together in a cluster too.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Collection, Sequence

    from redis.asyncio import Redis
    from redis.commands.core import AsyncScript

    from service.runtime.quota import Amounts, Rules

STREAM_LEASE = 15.0  # seconds after which the streams of a process that says nothing count no more
KEEP = 2 * 86_400  # seconds that a day's amounts are kept, from the last request on

# KEYS: the tenant's last requests (newest first), what it used today, the user's streams with their lease's end.
SCRIPT = """
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local most, period = tonumber(ARGV[1]), tonumber(ARGV[2])
local streams, lease, me, keep = tonumber(ARGV[3]), tonumber(ARGV[4]), ARGV[5], tonumber(ARGV[6])
local left, reset = 0, period
if most > 0 then
  local oldest = redis.call('LINDEX', KEYS[1], -1)
  while oldest and tonumber(oldest) <= now - period do
    redis.call('RPOP', KEYS[1])
    oldest = redis.call('LINDEX', KEYS[1], -1)
  end
  left = most - redis.call('LLEN', KEYS[1])
  if oldest then reset = tonumber(oldest) + period - now end
  if left <= 0 then return {'rate', 0, reset} end
end
for i = 7, #ARGV, 3 do
  local used = tonumber(redis.call('HGET', KEYS[2], ARGV[i]) or '0')
  local limit = tonumber(ARGV[i + 2])
  if used >= limit or used + tonumber(ARGV[i + 1]) > limit then return {ARGV[i], left, reset} end
end
if streams > 0 then
  redis.call('ZREMRANGEBYSCORE', KEYS[3], '-inf', now)
  if redis.call('ZCARD', KEYS[3]) >= streams then return {'streams', left, reset} end
  redis.call('ZADD', KEYS[3], now + lease, me)
  redis.call('PEXPIRE', KEYS[3], lease)
end
if most > 0 then
  redis.call('LPUSH', KEYS[1], now)
  redis.call('PEXPIRE', KEYS[1], period)
end
for i = 7, #ARGV, 3 do
  redis.call('HINCRBYFLOAT', KEYS[2], ARGV[i], ARGV[i + 1])
  redis.call('EXPIRE', KEYS[2], keep)
end
return {'', left - 1, reset}
"""
RENEW = """
local time = redis.call('TIME')
redis.call('ZADD', KEYS[1], time[1] * 1000 + math.floor(time[2] / 1000) + ARGV[1], ARGV[2])
redis.call('PEXPIRE', KEYS[1], ARGV[1])
"""

Stream = tuple[str, str, str]  # tenant, user, id
Verdict = tuple[bytes, int, int]  # what is used up ("" for nothing), what is left of the rate, its reset in ms


@dataclass(slots=True, eq=False)
class Ask:
    """One request that asks to be admitted. The answer: a verdict of the script, or None if Redis gave none."""

    stream: Stream
    estimate: Amounts | None  # None: of what is metered by the day it will use nothing
    day: int
    answer: asyncio.Future[Verdict | None]


@dataclass(slots=True)
class Basket:
    """What the next round trip carries: who asks, what is owed by (tenant, day) and name, whose stream has ended.

    `reads` wait for what is used up by (tenant, day); the answer is None if Redis gave none.
    """

    asks: list[Ask] = field(default_factory=list)
    reads: dict[tuple[str, int], asyncio.Future[Amounts | None]] = field(default_factory=dict)
    owed: dict[tuple[str, int], dict[str, float]] = field(default_factory=dict)
    ended: set[Stream] = field(default_factory=set)

    def owe(self, tenant: str, day: int, difference: Amounts) -> None:
        """Add to what is counted of the tenant's day: negative where less was used than reserved."""
        sums = self.owed.setdefault((tenant, day), {})
        for name, amount in difference.items():
            sums[name] = sums.get(name, 0.0) + amount


class Carrier:
    """Takes baskets to Redis.

    Args:
        redis: a client with time limits of its own.
        rules: what each tenant may use, in all processes together.
    """

    def __init__(self, redis: Redis, rules: Rules) -> None:
        self._redis = redis
        self._rules = rules
        self._decide: AsyncScript = redis.register_script(SCRIPT)
        self._renew: AsyncScript = redis.register_script(RENEW)

    async def carry(self, basket: Basket, renewed: Collection[Stream]) -> tuple[list[Verdict], list[Amounts]]:
        """Go there and back; return the verdicts, in the order of those who ask, and what was read, in its order.

        Args:
            basket: what goes along.
            renewed: streams whose lease begins anew.

        Raises:
            RedisError, OSError: no answer; what of the basket was done is not known.
        """
        async with self._redis.pipeline(transaction=False) as pipeline:
            for (tenant, day), sums in basket.owed.items():
                for name, amount in sums.items():
                    pipeline.hincrbyfloat(_used(tenant, day), name, amount)
                pipeline.expire(_used(tenant, day), KEEP)
            for stream in basket.ended:
                pipeline.zrem(_streams(stream), stream[2])
            for stream in renewed:
                await self._renew([_streams(stream)], [_ms(STREAM_LEASE), stream[2]], client=pipeline)
            for tenant, day in basket.reads:
                pipeline.hmget(_used(tenant, day), list(self._rules.daily))
            for ask in basket.asks:
                await self._decide(_keys(ask), self._arguments(ask), client=pipeline)
            if not len(pipeline):
                pipeline.ping()
            answers = await pipeline.execute()
        asked = len(answers) - len(basket.asks)
        read = answers[asked - len(basket.reads) : asked]
        return answers[asked:], [self._amounts(one) for one in read]

    def _amounts(self, found: Sequence[bytes | None]) -> Amounts:
        return {name: float(amount or 0) for name, amount in zip(self._rules.daily, found, strict=True)}

    def _arguments(self, ask: Ask) -> list[str | float]:
        rules = self._rules
        estimate = ask.estimate
        limited = {} if estimate is None else rules.daily
        daily = [part for name, most in limited.items() for part in (name, (estimate or {}).get(name, 0.0), most)]
        limits = (rules.requests or 0, _ms(rules.period), rules.user_streams or 0, _ms(STREAM_LEASE))
        return [*limits, ask.stream[2], KEEP, *daily]


def _keys(ask: Ask) -> list[str]:
    return [f"forebay:{{{ask.stream[0]}}}:hits", _used(ask.stream[0], ask.day), _streams(ask.stream)]


def _used(tenant: str, day: int) -> str:
    return f"forebay:{{{tenant}}}:used:{day}"


def _streams(stream: Stream) -> str:
    tenant, user, _ = stream
    return f"forebay:{{{tenant}}}:streams:{user}"


def _ms(seconds: float) -> int:
    return round(seconds * 1e3)
