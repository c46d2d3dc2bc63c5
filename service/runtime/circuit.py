"""Stop asking who does not answer: a circuit breaker for one model, and those of a provider together.

Pure: `now` is any clock in seconds that does not go back. Each attempt to call a model goes through its circuit;
service/routing.py makes them and tells the metric what state they are in.
"""

from __future__ import annotations

from collections import OrderedDict
from enum import IntEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

WINDOW = 30.0  # seconds over which attempts are judged
LEAST = 20  # attempts in that time: fewer prove nothing
SLICES = 10  # of the window: what is older than it is forgotten a tenth at a time
PROBES = 3  # that must be answered before all may ask again, and that are let through at once
FIRST_REST = 5.0  # seconds for which an open circuit lets nobody through; twice as long after each failed probe
LONGEST_REST = 60.0
PROBE_SECONDS = 1.0  # in which the probes under way are expected to bring news: about a first token


class State(IntEnum):
    """The numbers are those of the metric: the greater, the worse."""

    CLOSED = 0
    HALF_OPEN = 1
    OPEN = 2


class Circuit:
    """Opens when over half of at least twenty attempts in thirty seconds have failed.

    After a rest it is half open: a few attempts are let through as probes. Once they are answered it closes; when one
    of them fails it opens again, for longer.
    """

    def __init__(self, tell: Callable[[], None] = lambda: None) -> None:
        """Begin closed; `tell` is called whenever the state has changed."""
        self._tell = tell
        self.state = State.CLOSED
        self.era = 0  # counts the changes of state
        self._window = _Window()
        self._rest = FIRST_REST
        self._until = 0.0  # when the rest ends
        self._answered = self._probing = 0

    def rest(self, now: float) -> float:
        """Return the seconds in which nobody will be let through: 0 when an attempt could be made now."""
        if self.state is State.OPEN:
            return max(0.0, self._until - now)
        return PROBE_SECONDS if self.state is State.HALF_OPEN and not self._wants_probe else 0.0

    def attempt(self, now: float) -> Attempt | None:
        """Return leave for an attempt, whose maker must `end` it; None while nobody is let through."""
        if self.state is State.OPEN and now >= self._until:
            self._become(State.HALF_OPEN)
        if self.state is State.CLOSED:
            return Attempt(self, probe=False)
        if self.state is State.OPEN or not self._wants_probe:
            return None
        self._probing += 1
        return Attempt(self, probe=True)

    def age(self, now: float) -> None:
        """Take note of the time, as nobody may ask any more: the rest is over, or all that was known is too old."""
        if self.state is State.OPEN and now >= self._until:
            self._become(State.HALF_OPEN)
        if self.state is State.HALF_OPEN and not self._probing and now >= self._until + WINDOW:
            self._window = _Window()
            self._become(State.CLOSED)

    @property
    def _wants_probe(self) -> bool:
        return self._probing + self._answered < PROBES

    # --- called by attempts ------------------------------------------------------------------------------------------

    def judge(self, now: float, *, failed: bool) -> None:
        """Count an attempt that was made while all may ask."""
        self._window.add(now, failed=failed)
        attempts, failures = self._window.sums(now)
        if attempts >= LEAST and failures > attempts / 2:
            self._rest = FIRST_REST
            self._open(now)

    def judge_probe(self, now: float, *, failed: bool | None) -> None:
        """Take the news of a probe; None if it has brought none, and another may be made in its place."""
        self._probing -= 1
        if failed:
            self._rest = min(2 * self._rest, LONGEST_REST)
            self._open(now)
        elif failed is not None:
            self._answered += 1
            if self._answered == PROBES:
                self._window = _Window()
                self._become(State.CLOSED)

    def _open(self, now: float) -> None:
        self._until = now + self._rest
        self._become(State.OPEN)

    def _become(self, state: State) -> None:
        self.state = state
        self.era += 1
        self._answered = self._probing = 0
        self._tell()


class Attempt:
    """One attempt that was let through. It counts only if the circuit's state has not changed since it began.

    Thus what was under way when the circuit opened cannot open it again when it has just closed.
    """

    __slots__ = ("_circuit", "_era", "_probe")

    def __init__(self, circuit: Circuit, *, probe: bool) -> None:
        self._circuit: Circuit | None = circuit
        self._era, self._probe = circuit.era, probe

    def answered(self, now: float) -> None:
        """The first token is there. A probe has nothing more to prove: its stream may go on for long."""
        if self._probe:
            self.end(now, failed=False)

    def end(self, now: float, *, failed: bool | None) -> None:
        """Say how it ended; a second call does nothing.

        Args:
            now: the time.
            failed: whether it failed as one fails who is ill; None if it says nothing about that: it was cancelled,
                refused for too many requests, or the request itself was wrong.
        """
        circuit, self._circuit = self._circuit, None
        if circuit is None or circuit.era != self._era:
            return
        if self._probe:
            circuit.judge_probe(now, failed=failed)
        elif failed is not None:
            circuit.judge(now, failed=failed)


class _Window:
    """Attempts and failures of the last `WINDOW` seconds, in slices."""

    def __init__(self) -> None:
        self._slices = [(-1, 0, 0)] * SLICES  # for each: its number since the beginning of time, attempts, failures

    def add(self, now: float, *, failed: bool) -> None:
        number = int(now / WINDOW * SLICES)
        then, attempts, failures = self._slices[number % SLICES]
        if then != number:
            attempts = failures = 0
        self._slices[number % SLICES] = (number, attempts + 1, failures + failed)

    def sums(self, now: float) -> tuple[int, int]:
        oldest = int(now / WINDOW * SLICES) - SLICES
        live = [(attempts, failures) for number, attempts, failures in self._slices if number > oldest]
        return sum(attempts for attempts, _ in live), sum(failures for _, failures in live)


class Circuits:
    """The circuits of one provider: one for each model, made when it is first asked.

    What may be asked can be without end (the simulated model's parameters), so that what was not asked for longest is
    forgotten beyond `most`.

    Args:
        tell: called with the worst state of all, whenever it may have changed.
        most: how many are kept.
    """

    def __init__(self, tell: Callable[[State], None], most: int = 1_000) -> None:
        self._tell, self._most = tell, most
        self._known: OrderedDict[str, Circuit] = OrderedDict()

    def of(self, model: str) -> Circuit:
        """Return the circuit of `model`."""
        if model not in self._known:
            self._known[model] = Circuit(self._changed)
            if len(self._known) > self._most:
                self._known.popitem(last=False)
                self._changed()
        self._known.move_to_end(model)
        return self._known[model]

    def age(self, now: float) -> None:
        """Let what nobody asks for get over it; called from time to time."""
        for circuit in tuple(self._known.values()):
            circuit.age(now)

    def _changed(self) -> None:
        self._tell(max(circuit.state for circuit in self._known.values()))
