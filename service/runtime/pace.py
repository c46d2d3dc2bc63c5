"""How fast places come free: what a gate computes `Retry-After` and the wait to expect from."""

from __future__ import annotations

import math

MEMORY = 30.0  # seconds after which a release counts for 1/e: a few long streams, and still one incident
UNKNOWN = 1.0  # seconds assumed before the first release: the least that a Retry-After can say


class Pace:
    """The mean time that a place is held, the recent releases counting most.

    By Little's law one of `n` places that are held for `mean` seconds each comes free every `mean / n` seconds. Unlike
    a rate of releases this says the same after an idle hour, when nothing was released because nothing was asked for.
    """

    def __init__(self) -> None:
        self._seconds = self._releases = self._last = 0.0

    def released(self, held: float, now: float) -> None:
        """Note that a place was given back at `now` after `held` seconds."""
        fade = math.exp((self._last - now) / MEMORY)
        self._seconds = self._seconds * fade + held
        self._releases = self._releases * fade + 1.0
        self._last = now

    def until(self, releases: float, places: int) -> float:
        """Return the seconds in which `places` places are expected to be given back `releases` times."""
        mean = self._seconds / self._releases if self._releases else UNKNOWN
        return releases * mean / max(places, 1)
