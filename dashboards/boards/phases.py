"""Which phase eats the budget: durations against the budgets in force, outcomes, timeouts."""

from __future__ import annotations

from dashboards.board import Board, Row
from dashboards.panels import BAD, COUNT, OUTCOME_COLOURS, PER_SECOND, SECONDS, SHARE, WARN, Query, Says, grid, lines
from dashboards.promql import most, quantile, rate, ratio
from telemetry import catalogue as rows

_DURATION = rows.PHASE_DURATION_SECONDS
# The budget of stream.emit is for one write, its duration that of all of them, beside the other phases.
_IN_TURN = 'phase!="stream.emit"'
# And the duration of tool.call has the wait for an approval in it.
_OF_A_PIECE = 'phase!~"stream.emit|tool.call"'
_BUDGET = most(rows.PHASE_BUDGET_SECONDS, by="phase")
_RUNS = rate(rows.PHASE_OUTCOMES_TOTAL, 'outcome!="skipped"', by="phase")
_NOT_OK = rate(rows.PHASE_OUTCOMES_TOTAL, 'outcome!~"ok|skipped"', by="phase")
_USED = ratio(quantile(0.95, _DURATION, _OF_A_PIECE, by="phase"), f"on (phase) {_BUDGET}")

_TABLE = Row(
    "Every phase against its budget",
    [
        grid(
            "Phases now",
            Says(
                "Each phase: how often it ran, how long it took, the budget in force, what of it 95 % of its runs use, "
                "and the share that did not end well.",
                "Look at the phase with the most of its budget used, then at its outcomes below.",
            ),
            ("Runs / s", Query(_RUNS), PER_SECOND),
            ("p50", Query(quantile(0.5, _DURATION, by="phase")), SECONDS),
            ("p95", Query(quantile(0.95, _DURATION, by="phase")), SECONDS),
            ("p99", Query(quantile(0.99, _DURATION, by="phase")), SECONDS),
            ("Budget", Query(_BUDGET), SECONDS),
            ("Used, p95", Query(_USED), SHARE),
            ("Not ok", Query(ratio(_NOT_OK, _RUNS)), SHARE),
            key="phase",
            steps=((0.5, WARN), (0.9, BAD)),
            height=13,
        ),
    ],
)

_COURSE = Row(
    "Their course",
    [
        lines(
            "Duration, p95",
            Says(
                "How long the phases take, with traces of single runs.",
                "A phase that grows alone has a slow dependency; click a dot to see one run.",
            ),
            Query(quantile(0.95, _DURATION, by="phase"), "{{phase}}", exemplar=True),
            unit=SECONDS,
        ),
        lines(
            "Budget used, p95",
            Says("What 95 % of a phase's runs use of its budget; at 100 % it is ended.", "Find what it waits for."),
            Query(_USED, "{{phase}}"),
            unit=SHARE,
            steps=((0.9, BAD),),
        ),
        lines(
            "Phases that did not end well",
            Says(
                "Phases by an outcome other than ok. A cancelled one is usually a client that left, an abandoned one "
                "the neighbour of one that failed.",
                "timeout and error are ours: search the traces for `forebay.outcome` of that phase.",
            ),
            Query(
                rate(rows.PHASE_OUTCOMES_TOTAL, 'outcome!~"ok|skipped"', by="phase, outcome"), "{{phase}} {{outcome}}"
            ),
            unit=PER_SECOND,
        ),
        lines(
            "Timeouts by whose limit",
            Says(
                "Phases ended by a budget: their own (phase), what was left of the whole (total), or the one that the "
                "client asked for (client).",
                "total: earlier phases have eaten the time. client: not our fault.",
            ),
            Query(rate(rows.TIMEOUTS_TOTAL, by="phase, limit"), "{{phase}} {{limit}}"),
            unit=PER_SECOND,
        ),
        lines(
            "Where the time of a request goes",
            Says(
                "Mean seconds in each phase for one request that was started. stream.emit runs beside the others and "
                "is left out.",
                "The widest band is where a second can be won.",
            ),
            Query(
                ratio(
                    rate(_DURATION, _IN_TURN, by="phase", part="sum"),
                    f"on () group_left () {rate(rows.REQUESTS_STARTED_TOTAL)}",
                ),
                "{{phase}}",
            ),
            unit=SECONDS,
            stacked=True,
        ),
        lines(
            "Answers without a dependency",
            Says("Answers that had to do without something optional.", "See that dependency's own dashboards."),
            Query(rate(rows.DEGRADATIONS_TOTAL, by="dependency"), "{{dependency}}"),
            unit=PER_SECOND,
        ),
        lines(
            "Dependencies that are gone",
            Says("1 while processes go on without what all their answers share.", "Bring it back: see the runbook."),
            Query(most(rows.DEPENDENCY_GONE, by="dependency"), "{{dependency}}"),
            unit=COUNT,
        ),
    ],
)

_MODEL = Row(
    "The model's limits",
    [
        lines(
            "First token by model, p95",
            Says(
                "Time to the first token for the user, and the budget that all attempts have for it.",
                "Compare with the provider's own time on 'Providers and tools': the rest is ours.",
            ),
            Query(quantile(0.95, rows.TIME_TO_FIRST_TOKEN_SECONDS, by="model"), "{{model}}", exemplar=True),
            Query(
                most(rows.MODEL_BUDGET_SECONDS, 'limit="first_token"', by="model"),
                "budget {{model}}",
                limit=True,
            ),
            unit=SECONDS,
        ),
        lines(
            "Longest silence in a stream, p95",
            Says(
                "The longest time that the model was silent within one stream, and the budget for a silence.",
                "Long silences with a fast first token are a provider under load.",
            ),
            Query(quantile(0.95, rows.STREAM_MAX_GAP_SECONDS, by="model"), "{{model}}", exemplar=True),
            Query(most(rows.MODEL_BUDGET_SECONDS, 'limit="gap"', by="model"), "budget {{model}}", limit=True),
            unit=SECONDS,
        ),
        lines(
            "Whole streams, p95",
            Says(
                "Duration of whole streams by what became of them, and the total budget.",
                "Streams that complete near the budget want a longer one, or shorter answers.",
            ),
            Query(quantile(0.95, rows.STREAM_DURATION_SECONDS, by="outcome"), "{{outcome}}", exemplar=True),
            Query(most(rows.MODEL_BUDGET_SECONDS, 'limit="total"'), "total budget", limit=True),
            unit=SECONDS,
            colours=OUTCOME_COLOURS,
        ),
    ],
)

BOARD = Board(
    "forebay-phases",
    "Forebay / Phases and budgets",
    "Each phase against the budget in force: which one eats the time, and how it ends.",
    (_TABLE, _COURSE, _MODEL),
)
