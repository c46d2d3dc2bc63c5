"""Who leaves, in which phase, what that costs, and what clients are told."""

from __future__ import annotations

from dashboards.board import Board, Row
from dashboards.conditions import BEFORE_ANYTHING
from dashboards.panels import BAD, OUTCOME_COLOURS, PER_SECOND, SECONDS, SHARE, WARN, Query, Says, lines, single
from dashboards.promql import quantile, rate, ratio
from telemetry import catalogue as rows

_RESPONSES = rate(rows.HTTP_RESPONSES_TOTAL, by="code")
_OK = rate(rows.HTTP_RESPONSES_TOTAL, 'code="200"', by="code")  # a line that is always there
_ADMITTED = f"({rate(rows.REQUESTS_STARTED_TOTAL)} - {rate(rows.REJECTIONS_TOTAL)})"

_AT_A_GLANCE = Row(
    "Do clients stay?",
    [
        single(
            "Clients that leave",
            Says("Share of the admitted requests whose client closed before the end.", "See the phase below."),
            Query(ratio(rate(rows.CLIENT_DISCONNECTS_TOTAL), _ADMITTED)),
            unit=SHARE,
            steps=((0.1, WARN), (0.3, BAD)),
        ),
        single(
            "… before the first token",
            Says("Those that left before they had seen anything.", "The time to the first token is too long for them."),
            Query(ratio(rate(rows.CLIENT_DISCONNECTS_TOTAL, BEFORE_ANYTHING), _ADMITTED)),
            unit=SHARE,
            steps=((0.05, WARN), (0.25, BAD)),
        ),
        single(
            "Tokens wasted",
            Says(
                "Share of the generated tokens that came from a provider after the client had gone.",
                "More than a few in a thousand: cancellation does not reach the provider.",
            ),
            Query(ratio(rate(rows.WASTED_TOKENS_TOTAL), rate(rows.GENERATED_TOKENS_TOTAL))),
            unit=SHARE,
            steps=((0.01, WARN), (0.05, BAD)),
        ),
        single(
            "Clean-up, p99",
            Says(
                "From a cancellation's cause seen to the upstream closed and every place given back.",
                "Above a second, something does not let go: look at the traces of the chart below.",
            ),
            Query(quantile(0.99, rows.CANCEL_LATENCY_SECONDS)),
            unit=SECONDS,
            steps=((0.25, WARN), (1, BAD)),
        ),
    ],
)

_LEAVING = Row(
    "Leaving and cancelling",
    [
        lines(
            "Clients leaving, by phase",
            Says(
                "In which phase of the flow clients close.",
                "model.first_token: too slow. model.tokens: users stop reading, or a proxy has a time limit.",
            ),
            Query(rate(rows.CLIENT_DISCONNECTS_TOTAL, by="phase"), "{{phase}}"),
            unit=PER_SECOND,
        ),
        lines(
            "Cancellations by cause",
            Says(
                "Requests that were cancelled: the client closed or asked for it, its reader stalled, or we shut down.",
                "shutdown outside of a deployment: a process restarts by itself.",
            ),
            Query(rate(rows.CANCELLATIONS_TOTAL, by="cause"), "{{cause}}"),
            unit=PER_SECOND,
        ),
        lines(
            "Clean-up after a cancellation",
            Says(
                "Time until everything that a cancelled request held is given back.",
                "A long tail holds places and pays for tokens that nobody reads.",
            ),
            *(
                Query(quantile(q, rows.CANCEL_LATENCY_SECONDS), f"p{q * 100:g}", exemplar=True)
                for q in (0.5, 0.95, 0.99)
            ),
            unit=SECONDS,
        ),
        lines(
            "Tokens: generated and wasted",
            Says(
                "Tokens of streams by what became of them, and those received after the client had gone.",
                "Tokens of cancelled and errored streams are paid for, too.",
            ),
            Query(rate(rows.GENERATED_TOKENS_TOTAL, by="outcome"), "{{outcome}}"),
            Query(rate(rows.WASTED_TOKENS_TOTAL), "wasted"),
            unit=PER_SECOND,
            colours=OUTCOME_COLOURS,
        ),
    ],
)

_TOLD = Row(
    "What clients see",
    [
        lines(
            "Streams without a first token",
            Says(
                "Admitted streams that ended before a first token, by reason; the histogram of first tokens cannot "
                "show them.",
                "timeout and error are ours: see the phase and the provider.",
            ),
            Query(rate(rows.FIRST_TOKEN_MISSED_TOTAL, by="reason"), "{{reason}}"),
            unit=PER_SECOND,
        ),
        lines(
            "Stalled readers, by the phase they stall",
            Says(
                "Streams ended because their reader took no write for as long as it may.",
                "Clients that stop reading without closing: a suspended tab, a bug, an attack.",
            ),
            Query(rate(rows.CANCELLATIONS_TOTAL, 'cause="stalled_reader"', by="phase"), "{{phase}}"),
            unit=PER_SECOND,
        ),
        lines(
            "Responses by status",
            Says(
                "HTTP responses of every route.",
                "500 is a bug of ours; 503 want of room; 429 a limit; 401 a key that is wrong.",
            ),
            Query(
                f"{_RESPONSES} > 0\nor {_OK}",
                "{{code}}",
            ),
            unit=PER_SECOND,
        ),
        lines(
            "Stream errors by code",
            Says(
                "Streams that ended with an error event, by the code that the client was told.",
                "provider_*: the provider. timeout: a phase. internal: a bug, see the log's `bug` lines.",
            ),
            Query(rate(rows.STREAM_ERRORS_TOTAL, by="code"), "{{code}}"),
            unit=PER_SECOND,
        ),
    ],
)

BOARD = Board(
    "forebay-clients",
    "Forebay / Clients and cancellations",
    "Who leaves and in which phase, how fast everything is given back, and what clients are told.",
    (_AT_A_GLANCE, _LEAVING, _TOLD),
)
