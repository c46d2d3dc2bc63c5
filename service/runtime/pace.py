"""What a gate expects: how fast its places come free, and how soon its provider answers."""

from __future__ import annotations

import math

MEMORY = 30.0  # seconds after which a value counts for 1/e: a few long streams, and still one incident


class Recent:
    """A mean in which what came of late counts most."""

    def __init__(self) -> None:
        self._sum = self._weight = self._last = 0.0

    def add(self, value: float, now: float) -> None:
        """Take in a value of the moment `now`."""
        fade = math.exp((self._last - now) / MEMORY)
        self._sum = self._sum * fade + value
        self._weight = self._weight * fade + 1.0
        self._last = now

    def mean(self) -> float:
        """Return the mean, however long ago its last value came; 0 if none ever did: nobody is refused for a guess."""
        return self._sum / self._weight if self._weight else 0.0

    def fresh(self, now: float) -> float:
        """Return the mean if it is of late, else 0: what nobody tries any more, nobody would learn to be well again."""
        return self.mean() if now - self._last < MEMORY else 0.0


class Pace:
    """The mean time that a place is held.

    By Little's law one of `n` places that are held for `mean` seconds each comes free every `mean / n` seconds. Unlike
    a rate of releases this says the same after an idle hour, when nothing was released because nothing was asked for.
    """

    def __init__(self) -> None:
        self._held = Recent()

    def released(self, held: float, now: float) -> None:
        """Note that a place was given back at `now` after `held` seconds."""
        self._held.add(held, now)

    def until(self, releases: float, places: int) -> float:
        """Return the seconds in which `places` places are expected to be given back `releases` times."""
        return releases * self._held.mean() / max(places, 1)
