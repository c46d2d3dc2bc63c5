"""The service level objectives as data: what is good, what is bad, how much good is promised (contract, section 3).

What is in neither sum is not eligible: refusals for rate, quota, authentication or an invalid request, clients that
leave, and turns that end by a time limit that the client set. burn.py makes rules of this table, boards read it too.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from telemetry import catalogue as rows
from telemetry.catalogue import Metric
from telemetry.slo import FIRST_TOKEN_SECONDS, TOKEN_GAP_SECONDS

OUR_REFUSALS = "queue_full|deadline|draining|provider_unavailable"


@dataclass(frozen=True)
class Rates:
    """How a sum of rates is written: for the rules by job, for a board through its variables."""

    select: Callable[..., str]
    window: str
    by: str = ""

    def __call__(self, row: Metric, *matchers: str, part: str = "") -> str:
        """Return the rate per second of these series, summed."""
        grouped = f"sum by ({self.by})" if self.by else "sum"
        return f"{grouped} (rate({self.select(row, *matchers, part=part)}[{self.window}]))"


@dataclass(frozen=True)
class Slo:
    """One promise to users.

    Attributes:
        name: the label `slo`.
        title: the start of the alerts' names.
        objective: the share of eligible events that shall be good, over 30 days.
        good: rate of good events.
        bad: rate of bad events; together they are the eligible ones.
        felt: what the user feels when it breaks; `{share}` is where the share goes.
        pages: whether a fast burn wakes somebody; a slow one makes a ticket in any case.
        board: where to look first.
    """

    name: str
    title: str
    objective: float
    good: Callable[[Rates], str]
    bad: Callable[[Rates], str]
    felt: str
    board: str
    pages: bool = True

    @property
    def budget(self) -> float:
        """The share that may be bad."""
        return round(1 - self.objective, 6)


def _turns_good(rate: Rates) -> str:
    return rate(rows.REQUESTS_TOTAL, 'outcome=~"completed|degraded"')


def _turns_bad(rate: Rates) -> str:
    timed_out, by_client = rate(rows.REQUESTS_TOTAL, 'outcome="timed_out"'), rate(rows.TIMEOUTS_TOTAL, 'limit="client"')
    return "\n+ ".join(
        (
            rate(rows.REQUESTS_TOTAL, 'outcome="errored"'),
            f"clamp_min({timed_out} - {by_client}, 0)",
            rate(rows.CANCELLATIONS_TOTAL, 'cause="shutdown"'),
            rate(rows.REJECTIONS_TOTAL, f'reason=~"{OUR_REFUSALS}"'),
        )
    )


def _first_token_good(rate: Rates) -> str:
    return rate(rows.TIME_TO_FIRST_TOKEN_SECONDS, f'le="{FIRST_TOKEN_SECONDS}"', part="bucket")


def _first_token_bad(rate: Rates) -> str:
    missed = rate(rows.FIRST_TOKEN_MISSED_TOTAL, 'reason=~"timeout|error|shutdown"')
    return f"{rate(rows.TIME_TO_FIRST_TOKEN_SECONDS, part='count')} - {_first_token_good(rate)}\n+ {missed}"


def _gaps_good(rate: Rates) -> str:
    return rate(rows.STREAM_MAX_GAP_SECONDS, f'le="{TOKEN_GAP_SECONDS}"', part="bucket")


def _gaps_bad(rate: Rates) -> str:
    return f"{rate(rows.STREAM_MAX_GAP_SECONDS, part='count')} - {_gaps_good(rate)}"


TURNS = Slo(
    "turns",
    "Turns",
    0.995,
    _turns_good,
    _turns_bad,
    "{share} of requests end without an answer: an error, a time-out, or a refusal for which we are to blame.",
    "forebay-overview",
)
FIRST_TOKEN = Slo(
    "first_token",
    "FirstToken",
    0.99,
    _first_token_good,
    _first_token_bad,
    f"{{share}} of streams show no first token within {FIRST_TOKEN_SECONDS:g} s: users look at an empty answer.",
    "forebay-phases",
)
TOKEN_GAP = Slo(
    "token_gap",
    "TokenGap",
    0.99,
    _gaps_good,
    _gaps_bad,
    f"{{share}} of streams stand still for more than {TOKEN_GAP_SECONDS:g} s in the middle of an answer.",
    "forebay-phases",
)
UNDEGRADED = Slo(
    "undegraded",
    "Degraded",
    0.95,
    lambda rate: rate(rows.REQUESTS_TOTAL, 'outcome="completed"'),
    lambda rate: rate(rows.REQUESTS_TOTAL, 'outcome="degraded"'),
    "{share} of answers had to do without a dependency, such as evidence or the first choice of model.",
    "forebay-phases",
    pages=False,  # users are served
)
SLOS = (TURNS, FIRST_TOKEN, TOKEN_GAP, UNDEGRADED)
