"""Whether a failed attempt may be made again, and when: a jittered pause, and one budget for the whole process.

A retry helps against a failure that passes, and feeds one that does not: when a provider is down, each request brings
three attempts, and the provider never comes up. So retries are a share of the requests, whoever makes them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from random import Random

FIRST_PAUSE = 0.1  # seconds: the first pause is drawn from [0, 0.1), the next from twice that, and so on
LONGEST_PAUSE = 5.0


class Retries:
    """How the process retries, one for all that it asks: a fifth of its requests, and ten a second besides.

    After Finagle's RetryBudget (github.com/twitter/finagle): what was granted in the last ten seconds is never more
    than a share of the requests of those seconds and a reserve, which lets a quiet process retry at all. Time is cut
    into slices of a second; `now` is any clock in seconds that does not go back.
    """

    SHARE = 0.2
    A_SECOND = 10
    WINDOW = 10  # seconds

    def __init__(self, random: Random) -> None:
        self._random = random
        self._slices = [(-1, 0, 0)] * self.WINDOW  # for each: its second, requests, retries

    def pause(self, attempt: int) -> float:
        """Return the seconds to wait after `attempt`, counted from 1, has failed: exponential, with full jitter.

        Drawing from the whole interval spreads those who failed together over it (M. Brooker, 'Exponential Backoff And
        Jitter', AWS Architecture Blog, 2015).
        """
        return self._random.uniform(0.0, min(LONGEST_PAUSE, FIRST_PAUSE * 2 ** (attempt - 1)))

    def request(self, now: float) -> None:
        """Count a request, however many attempts it will need."""
        self._add(now, 1, 0)

    def take(self, now: float) -> bool:
        """Take leave for one retry; False if the budget is used up."""
        oldest = int(now) - self.WINDOW
        live = [(requests, retries) for second, requests, retries in self._slices if second > oldest]
        requests, retries = (sum(column) for column in zip((0, 0), *live, strict=True))
        if retries + 1 > self.SHARE * requests + self.A_SECOND * self.WINDOW:
            return False
        self._add(now, 0, 1)
        return True

    def _add(self, now: float, requests: int, retries: int) -> None:
        second = int(now)
        place = second % self.WINDOW
        then, requests_before, retries_before = self._slices[place]
        if then == second:
            requests, retries = requests_before + requests, retries_before + retries
        self._slices[place] = (second, requests, retries)
