"""One series of a metric, bound once and written to without a question: what a Family hands out.

prometheus_client asks at each update whether the series is a whole metric, and looks for a histogram's bucket from
below: two thirds of an increment (0.2 µs where theirs takes 0.6, measured). What is written to are its own values, so
what is exported, by one process or many, is what it would be.
"""

from __future__ import annotations

import time
from bisect import bisect_left
from collections.abc import Sequence
from typing import Protocol

from prometheus_client import Counter, Gauge, Histogram
from prometheus_client.samples import Exemplar


class Value(Protocol):
    """A number of prometheus_client's: under a lock, or in a file that several processes read."""

    def inc(self, amount: float) -> None:
        """Add `amount`."""
        ...

    def set(self, value: float) -> None:
        """Replace it."""
        ...

    def set_exemplar(self, exemplar: Exemplar) -> None:
        """Remember an example of what was counted; kept by one process alone, not by several."""
        ...


class Distribution:
    """One series of a histogram."""

    __slots__ = ("_bounds", "_buckets", "_sum")

    def __init__(self, child: Histogram) -> None:
        self._bounds: Sequence[float] = child._upper_bounds  # noqa: SLF001  # pinned; the tests compare the outcome
        self._buckets: Sequence[Value] = child._buckets  # noqa: SLF001  # likewise
        self._sum: Value = child._sum  # noqa: SLF001  # likewise

    def observe(self, amount: float, example: dict[str, str] | None = None) -> None:
        """Put `amount` into its bucket, the first whose bound is not below it, with the labels of an example."""
        self._sum.inc(amount)
        bucket = self._buckets[bisect_left(self._bounds, amount)]
        bucket.inc(1)
        if example is not None:
            bucket.set_exemplar(Exemplar(example, amount, time.time()))


class Nowhere:
    """Where a point goes that no series is there for."""

    def inc(self, amount: float) -> None:
        """Forget it."""

    def set(self, value: float) -> None:
        """Forget it."""

    def set_exemplar(self, exemplar: Exemplar) -> None:
        """Forget it."""

    def observe(self, amount: float, example: dict[str, str] | None = None) -> None:
        """Forget it."""


def value_of(child: Counter | Gauge) -> Value:
    """Return the number of one series."""
    value: Value = child._value  # noqa: SLF001  # pinned; the tests compare the outcome
    return value
