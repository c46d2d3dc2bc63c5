"""Who is next: one line of waiters for each tenant, served by deficit round robin. Only `gate.py` calls it.

A single queue gives nearly every place to whoever sends most. Here each tenant has a line of its own and the lines take
turns, so that a tenant waits for the turns of the others, never for their backlog. To plain deficit round robin
(M. Shreedhar, G. Varghese, 'Efficient Fair Queueing Using Deficit Round Robin', 1995) two things are added:

- A tenant that begins to wait goes before those who have had a turn, once: the list of new flows of FQ-CoDel (RFC 8290,
  section 4.2). A line served from it joins the others, even if empty by then; otherwise a tenant that sends one request
  after another would stay new for ever and starve the rest.
- A tenant at its own limit leaves the round, so that it holds up nobody, and comes back at the end of it.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Iterator, Mapping


@dataclass(slots=True, eq=False)
class Waiter:
    """One request in a line. `outcome` becomes its place, or fails with the error that turns it away."""

    line: Line
    owner: asyncio.Task[object] | None
    outcome: asyncio.Future[Any]
    number: int  # counts up with every arrival

    @property
    def gone(self) -> bool:
        """True once its task was cancelled, which it may not have had the time to say."""
        return self.outcome.done()


@dataclass(slots=True, eq=False)
class Line:
    """One tenant: how many places it has, and who waits for more, in order of arrival."""

    tenant: str
    weight: float
    in_use: int = 0
    turns_left: float = 0.0  # the deficit counter: places it may still take in this round
    in_round: bool = False
    waiting: deque[Waiter] = field(default_factory=deque)


class Lines:
    """The lines of all tenants and the round they take turns in.

    Args:
        weights: how many places a tenant gets in one turn, for those who differ from 1; at least 1, which is what makes
            each step of the round constant in time.
        tenant_limit: how many places one tenant may have at once; None for no such limit.
    """

    def __init__(self, weights: Mapping[str, float], tenant_limit: int | None) -> None:
        if any(weight < 1 for weight in weights.values()):
            raise ValueError("a tenant's weight is at least 1")
        self._weights = weights
        self.tenant_limit = tenant_limit
        self._by_tenant: dict[str, Line] = {}
        self._new: deque[Line] = deque()
        self._old: deque[Line] = deque()
        self._arrivals = 0
        self.waiting = 0

    def __iter__(self) -> Iterator[Line]:
        return iter(self._by_tenant.values())

    def of(self, tenant: str) -> Line:
        """Return the tenant's line, or an empty one that is not kept before it is used."""
        return self._by_tenant.get(tenant) or Line(tenant, self._weights.get(tenant, 1.0))

    def set_tenant_limit(self, places: int) -> None:
        """Change how many places one tenant may have; those granted stay."""
        self.tenant_limit = places
        for line in list(self):
            self._settle(line)

    def occupy(self, line: Line) -> None:
        """Count a place to the tenant."""
        line.in_use += 1
        self._by_tenant[line.tenant] = line

    def vacate(self, line: Line) -> None:
        """Count a place of the tenant back, which may let it take turns again."""
        line.in_use -= 1
        self._settle(line)

    def at_limit(self, line: Line) -> bool:
        """Tell whether the tenant has all the places that it may have."""
        return self.tenant_limit is not None and line.in_use >= self.tenant_limit

    def join(self, line: Line, owner: asyncio.Task[object] | None, outcome: asyncio.Future[Any]) -> Waiter:
        """Add a waiter to the end of its line."""
        self._arrivals += 1
        waiter = Waiter(line, owner, outcome, self._arrivals)
        line.waiting.append(waiter)
        self._by_tenant[line.tenant] = line
        self.waiting += 1
        if not line.in_round and not self.at_limit(line):
            line.turns_left = line.weight
            self._enter(line, self._new)
        return waiter

    def leave(self, waiter: Waiter) -> None:
        """Take a waiter out of its line, if it is still there."""
        try:
            waiter.line.waiting.remove(waiter)
        except ValueError:
            return
        self.waiting -= 1
        self._settle(waiter.line)

    def next(self) -> Waiter | None:
        """Take out whose turn it is; None if nobody waits but for its own tenant's limit.

        Lines that turn out to be empty leave the round here and nowhere else: a call with nobody waiting tidies up.
        """
        while ring := self._new or self._old:
            line = ring[0]
            self._skip_gone(line)
            if line.turns_left < 1:
                line.turns_left += line.weight
                self._old.append(ring.popleft())
            elif line.waiting and not self.at_limit(line):
                line.turns_left -= 1
                self.waiting -= 1
                return line.waiting.popleft()
            elif ring is self._new and self._old:
                self._old.append(ring.popleft())
            else:
                ring.popleft().in_round = False
                self._settle(line)
        return None

    def longest(self) -> Line | None:
        """Return the longest line, of equal ones the one with the newest waiter; None if nobody waits."""
        lines = (line for line in self if line.waiting)
        return max(lines, key=lambda line: (len(line.waiting), line.waiting[-1].number), default=None)

    def ahead_of(self, line: Line) -> float:
        """Return how many waiters would get a place before one who joined `line` now (an estimate: turns go on)."""
        if not line.in_round:
            return sum(min(len(other.waiting), other.turns_left) for other in self._new)
        rounds = (len(line.waiting) + 1) / line.weight
        others = (other for other in self if other.in_round and other is not line)
        return len(line.waiting) + sum(min(len(other.waiting), rounds * other.weight) for other in others)

    def _settle(self, line: Line) -> None:
        """Let a tenant under its limit take turns, and forget one of whom nothing is left."""
        if line.in_round:
            return
        if line.waiting and not self.at_limit(line):
            self._enter(line, self._old)
        elif not line.waiting and not line.in_use:
            self._by_tenant.pop(line.tenant, None)

    def _enter(self, line: Line, ring: deque[Line]) -> None:
        line.in_round = True
        ring.append(line)

    def _skip_gone(self, line: Line) -> None:
        while line.waiting and line.waiting[0].gone:
            line.waiting.popleft()
            self.waiting -= 1
