"""One limit for several processes: each holds a part of it, on lease from Redis. For the composition root.

A gate never asks Redis for a place: it grants from what its process holds, and this task, beside the requests, sees to
it that the process holds what it needs. Each round is one call per resource that renews, takes and gives back at once:
the script divides the limit among those who want it, smallest wants first (max-min fairness), and never promises a
place twice, since a process counts as holding what it has granted until it has said otherwise. A process that dies says
nothing more, and what it held comes free when its lease runs out.

Without Redis each process goes on with an equal part of the limit and says that it is degraded. A process that was
stopped for longer than its lease begins again with nothing, but what it had granted before goes on beside what others
were given meanwhile: a lease cannot take back a request that runs.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import dataclass
from math import ceil
from typing import TYPE_CHECKING

from service.runtime.redis_client import FAILURES, PATIENCE, raise_lost_cancellation

if TYPE_CHECKING:
    from collections.abc import Mapping

    from redis.asyncio import Redis
    from redis.commands.core import AsyncScript

    from service.runtime.gate import Gate
    from service.runtime.outage import Outage

LEASE = 3.0  # seconds: what a dead process held comes free after at most this; renewed at each third of it
SHORT = 0.05  # seconds between rounds while somebody waits and more might be had

# One hash per resource: process → "lease end:held:wanted". The server's clock decides, processes' clocks may differ.
SCRIPT = """
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local me, limit, lease = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
local held, wanted = tonumber(ARGV[4]), tonumber(ARGV[5])
local others, wants = 0, {{wanted, me}}
local all = redis.call('HGETALL', KEYS[1])
for i = 1, #all, 2 do
  local till, has, wish = string.match(all[i + 1], '(%d+):(%d+):(%d+)')
  if tonumber(till) <= now then
    redis.call('HDEL', KEYS[1], all[i])
  elseif all[i] ~= me then
    others = others + tonumber(has)
    table.insert(wants, {tonumber(wish), all[i]})
  end
end
table.sort(wants, function(a, b) return a[1] < b[1] or (a[1] == b[1] and a[2] < b[2]) end)
local left, fair = limit, 0
for i, want in ipairs(wants) do
  local share = math.min(want[1], math.floor(left / (#wants - i + 1)))
  left = left - share
  if want[2] == me then fair = share end
end
held = math.max(held, math.min(fair, limit - others))
redis.call('HSET', KEYS[1], me, string.format('%d:%d:%d', now + lease, held, wanted))
redis.call('PEXPIRE', KEYS[1], 2 * lease)
return {held, fair, #wants}
"""


@dataclass(slots=True)
class Share:
    """What this process has of one resource: `held` of the `limit` places of all.

    Of its tenant limit a gate has the same part, rounded up, so that a tenant has it wherever its requests go.
    """

    gate: Gate
    limit: int
    tenant_limit: int | None
    held: int = -1  # nothing was said yet

    def hold(self, places: int) -> None:
        """Let the gate grant up to `places`."""
        if places != self.held:
            self.held = places
            part = None if self.tenant_limit is None else max(1, ceil(self.tenant_limit * places / self.limit))
            self.gate.set_limit(places, tenant_limit=part)


class Leases:
    """Sets the limits of this process's gates to what it holds of the limits of all processes.

    Args:
        redis: a client with time limits of its own, such as `redis_client.connect` makes; closed by `close`.
        limits: the gates and, of each, the limit of all processes together.
        process: this process's id, different from all others.
        processes: how many there are to be; what is seen in Redis counts as soon as it is more.
        outage: where it is told that Redis is gone, and back.
        lease: seconds after which the places of a process that says nothing come free.
    """

    def __init__(
        self,
        redis: Redis,
        limits: Mapping[Gate, int],
        *,
        process: str,
        processes: int,
        outage: Outage,
        lease: float = LEASE,
    ) -> None:
        self._redis = redis
        self._script: AsyncScript = redis.register_script(SCRIPT)
        self._shares = [Share(gate, limit, gate.tenant_limit) for gate, limit in limits.items()]
        self._process = process
        self._expected = self._processes = processes
        self._outage = outage
        self._lease = lease
        self._short = asyncio.Event()
        self._renewed_at = asyncio.get_running_loop().time()
        self.degraded = False
        for share in self._shares:
            share.hold(0)
            share.gate.call_when_short(self._short.set)

    async def run(self) -> None:
        """Go round until cancelled. Await `round` once before, so that the first request finds its place."""
        while True:
            self._short.clear()
            if any(share.gate.waiting for share in self._shares):
                await asyncio.sleep(SHORT)
            else:
                with suppress(TimeoutError):
                    async with asyncio.timeout(self._lease / 3):
                        await self._short.wait()
            await self.round()
            raise_lost_cancellation()

    async def round(self) -> None:
        """Renew, take and give back, for all resources; without an answer, fall back to an equal part."""
        now = asyncio.get_running_loop().time()
        if now - self._renewed_at > self._lease and not self.degraded:
            for share in self._shares:
                share.hold(0)  # the lease ran out while this process stood still: others may have it now
        try:
            async with asyncio.timeout(PATIENCE):
                answers = await self._ask()
        except FAILURES as failure:
            self._fall_back(failure)
            return
        self._renewed_at = now
        self._processes = max(self._expected, *(processes for _, _, processes in answers))
        for share, (held, fair, _) in zip(self._shares, answers, strict=True):
            # Fewer than held: the gate grants no more than that from now on, and the next round gives the rest back.
            share.hold(min(held, fair))
        self.degraded = False
        self._outage.end(self)

    async def close(self) -> None:
        """Give back everything and disconnect; call it once nothing runs any more."""
        with suppress(*FAILURES):
            async with asyncio.timeout(PATIENCE):
                for share in self._shares:
                    await self._redis.hdel(_key(share), self._process)
        await self._redis.aclose()

    async def _ask(self) -> list[tuple[int, int, int]]:
        """Ask for what each gate needs, in one round trip; return what is held, what is fair, how many processes."""
        async with self._redis.pipeline(transaction=False) as pipeline:
            for share in self._shares:
                held = max(share.held, share.gate.in_use)
                arguments: list[str | int] = [
                    self._process,
                    share.limit,
                    round(self._lease * 1000),
                    held,
                    self._wanted(share),
                ]
                await self._script(keys=[_key(share)], args=arguments, client=pipeline)
            return [(held, fair, processes) for held, fair, processes in await pipeline.execute()]

    def _wanted(self, share: Share) -> int:
        """Return what is in use, who waits, and a few more to meet a newcomer; after an outage no more than is held.

        The others get that one round to say what they hold, which a restarted Redis does not know.
        """
        if self.degraded:
            return share.held
        spare = max(1, share.limit // (4 * self._processes))
        return min(share.limit, share.gate.in_use + share.gate.waiting + spare)

    def _fall_back(self, failure: Exception) -> None:
        for share in self._shares:
            share.hold(self._equal(share))
        self.degraded = True
        self._outage.begin(self, failure)

    def _equal(self, share: Share) -> int:
        return max(1, share.limit // self._processes)


def _key(share: Share) -> str:
    return f"forebay:places:{share.gate.resource}"
