"""What a gate hands out and tells: a place, and its numbers. Made by `gate.py` alone."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import TracebackType

    from service.runtime.gate import Gate
    from service.runtime.lines import Line

Owner = asyncio.Task[object] | None


@dataclass(frozen=True, slots=True)
class TenantUse:
    """One tenant at a gate: places it has, requests of it that wait."""

    in_use: int
    waiting: int


@dataclass(frozen=True, slots=True)
class Statistics:
    """A gate at one moment; `tenants` holds those who have or want a place."""

    in_use: int
    limit: int
    waiting: int
    tenants: Mapping[str, TenantUse]


class Place:
    """The right to use the resource, until it is released. As a context manager it is released at the end."""

    __slots__ = ("_gate", "line", "owner", "since")

    def __init__(self, gate: Gate, line: Line, owner: Owner, since: float) -> None:
        self._gate: Gate | None = gate
        self.line, self.owner, self.since = line, owner, since

    def report(self, *, sample: float | None = None, dropped: bool = False) -> None:
        """Tell an adaptive limit of the first token as soon as it is there, long before the place is released."""
        if self._gate is not None:
            self._gate.learn(sample=sample, dropped=dropped)

    def release(self, *, dropped: bool = False, sample: float | None = None) -> None:
        """Give the place back, to the next waiter if there is one. A second call does nothing.

        Args:
            dropped: the provider refused the request (429) or ran out of time.
            sample: seconds until the first token, unless `report` has told it.
        """
        gate, self._gate = self._gate, None
        if gate is not None:
            gate.take_back(self, dropped=dropped, sample=sample)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()
