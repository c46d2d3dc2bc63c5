"""How many at once: the size of a gate, fixed or found out from how a provider answers. `gate.Gate` is given one.

Nothing in here waits, counts places or asks for the time: a limit is a number that samples move.
"""

from __future__ import annotations

from typing import Protocol


class Limit(Protocol):
    """The number of places of a gate."""

    @property
    def value(self) -> int:
        """How many places there are now."""
        ...

    def resize(self, value: int) -> None:
        """Take `value` as the most that is allowed, from outside: settings, or this process's share."""
        ...

    def update(self, now: float, *, sample: float | None, dropped: bool, in_flight: int) -> None:
        """Learn from one request.

        Args:
            now: the event loop's time in seconds.
            sample: seconds until the first token, never the stream's length: a long answer is not a slow provider.
                None if the request says nothing, such as one that its client gave up.
            dropped: the provider refused it (429) or did not answer in time.
            in_flight: places in use while it ran, itself included.
        """
        ...


class Fixed:
    """A limit that only the settings move."""

    def __init__(self, value: int) -> None:
        self.value = value

    def resize(self, value: int) -> None:
        """Take the new value."""
        self.value = value

    def update(self, now: float, *, sample: float | None, dropped: bool, in_flight: int) -> None:
        """Learn nothing."""


class Gradient2:
    """Netflix's Gradient2 (github.com/Netflix/concurrency-limits), with a cut on drops as in TCP.

    The latency of late is compared with the latency of long: `g = clamp(long / short, 0.5, 1)`. The limit follows
    `0.8 L + 0.2 (g L + 4)`: it grows by 0.8 a step while nothing queues at the provider, and shrinks by up to a tenth
    once its answers slow down; the 4 is the queue that is tolerated there. It does not grow while fewer than half of
    the places are used, for then it would learn nothing. A drop takes a fifth, at most once in a step's time: a hundred
    refusals of one moment are one piece of news.

    What it cannot see is a queue that was there at its first sample: it takes that for the provider's way until the
    load falls. Netflix multiplies `long` by a tolerance of 1.5; in the simulation (tests/simulation/test_adaptive.py)
    that misses the knee by half and more, while the noise that it is meant for is averaged out by the steps.

    Args:
        start: where it starts, and the most it may reach unless `ceiling` says otherwise.
        floor: the least; by default a quarter of the start, but at least 4 (and never more than the start).
        ceiling: the most.
    """

    STEP_SECONDS = 1.0  # a step is taken after a second and ten samples: Netflix's WindowedLimit
    STEP_SAMPLES = 10
    SMOOTHING = 0.2
    QUEUE = 4.0
    LONG_STEPS = 600.0  # memory of the long latency: ten minutes under load
    WARM_UP_STEPS = 10.0
    CUT = 0.8

    def __init__(self, start: int, *, floor: int | None = None, ceiling: int | None = None) -> None:
        self._floor = min(start, max(4, start // 4) if floor is None else floor)
        self._ceiling = start if ceiling is None else ceiling
        self._limit = float(start)
        self._long = 0.0
        self._steps = 0.0
        self._began = self._sum = 0.0
        self._count = self._busiest = 0
        self._cut_at = -self.STEP_SECONDS

    @property
    def value(self) -> int:
        """The limit, in whole places."""
        return min(int(self._limit), self._ceiling)

    def resize(self, value: int) -> None:
        """Take a new ceiling; what was learnt below it stays."""
        self._ceiling = value

    def update(self, now: float, *, sample: float | None, dropped: bool, in_flight: int) -> None:
        """Learn from one request; see `Limit.update`."""
        if dropped:
            self._cut(now)
        elif sample is not None:
            self._sum += sample
            self._count += 1
            self._busiest = max(self._busiest, in_flight)
            if self._count >= self.STEP_SAMPLES and now - self._began >= self.STEP_SECONDS:
                self._step(self._sum / self._count)
                self._begin_step(now)

    def _begin_step(self, now: float) -> None:
        self._began, self._sum, self._count, self._busiest = now, 0.0, 0, 0

    def _step(self, short: float) -> None:
        self._steps += 1
        weight = 1 / min(self._steps, self.WARM_UP_STEPS) if self._steps <= self.WARM_UP_STEPS else 1 / self.LONG_STEPS
        self._long += weight * (short - self._long)
        if self._long > 2 * short:  # an overload has ended: do not wait ten minutes to believe it
            self._long *= 0.95
        if self._busiest < self._limit / 2:
            return
        gradient = max(0.5, min(1.0, self._long / short)) if short > 0 else 1.0
        self._move(self._limit + self.SMOOTHING * (gradient * self._limit + self.QUEUE - self._limit))

    def _cut(self, now: float) -> None:
        if now - self._cut_at >= self.STEP_SECONDS:
            self._cut_at = now
            self._move(self._limit * self.CUT)

    def _move(self, limit: float) -> None:
        self._limit = max(self._floor, min(self._ceiling, limit))
