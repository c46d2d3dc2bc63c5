"""Are users served? The board to open first: it names the phase, the refusal or the resource, and leads to a trace."""

from __future__ import annotations

from dashboards.board import Board, Row
from dashboards.burn import BAD, ELIGIBLE, FAST, OBJECTIVE, RATIO
from dashboards.panels import BAD as RED
from dashboards.panels import (
    COUNT,
    OUTCOME_COLOURS,
    PER_SECOND,
    SECONDS,
    SHARE,
    Query,
    Says,
    bars,
    lines,
    single,
)
from dashboards.panels import GOOD as GREEN
from dashboards.panels import WARN as ORANGE
from dashboards.promql import level, most, quantile, rate, ratio, shown
from dashboards.slos import TURNS, Rates
from telemetry import catalogue as rows
from telemetry.slo import FIRST_TOKEN_SECONDS

# The budget of stream.emit is for one write, its duration that of all of them; tool.call waits for approvals, too.
_IN_TURN = 'phase!~"stream.emit|tool.call"'
_NOW = Rates(shown, "$__rate_interval")
_SERVED = f"({TURNS.good(_NOW)})\n/ ({TURNS.good(_NOW)}\n+ {TURNS.bad(_NOW)})"
_ADMITTED = f"({rate(rows.REQUESTS_STARTED_TOTAL)} - {rate(rows.REJECTIONS_TOTAL)})"
_BUDGET = f'on (job, slo) (1 - {OBJECTIVE}{{job=~"$job"}})'
_SPENT = f'(avg_over_time({BAD}{{job=~"$job"}}[30d]) / avg_over_time({ELIGIBLE}{{job=~"$job"}}[30d]))\n    / {_BUDGET}'

_AT_A_GLANCE = Row(
    "Are users served?",
    [
        single(
            "Served",
            Says(
                "Share of the eligible requests that were answered; refusals for which a client is to blame, and "
                "clients that left, are not counted.",
                "'Outcomes' says what becomes of the rest; 'Refusals' and 'Timeouts' say why.",
            ),
            Query(_SERVED),
            unit=SHARE,
            steps=((TURNS.objective - 0.02, ORANGE), (TURNS.objective, GREEN)),
        ),
        single(
            "First token, p95",
            Says(
                "Within this time 95 % of the streams showed their first token, from the request's headers on.",
                "'Budget used by phase' says which phase takes the time.",
            ),
            Query(quantile(0.95, rows.TIME_TO_FIRST_TOKEN_SECONDS)),
            unit=SECONDS,
            steps=((FIRST_TOKEN_SECONDS / 2, ORANGE), (FIRST_TOKEN_SECONDS, RED)),
        ),
        single(
            "Clients that leave",
            Says(
                "Share of the admitted requests whose client closed before the end.",
                "See 'Clients and cancellations' for the phase in which they leave.",
            ),
            Query(ratio(rate(rows.CLIENT_DISCONNECTS_TOTAL), _ADMITTED)),
            unit=SHARE,
            steps=((0.1, ORANGE), (0.3, RED)),
        ),
        single(
            "Alerts that fire",
            Says("Alerts of Forebay that fire now.", "Each has its runbook: follow the alert's link."),
            Query('count(ALERTS{alertstate="firing", alertname=~"Forebay.+", job=~"$job|"}) or vector(0)'),
            unit=COUNT,
            steps=((1, RED),),
        ),
    ],
)

_PROMISES = Row(
    "What was promised",
    [
        bars(
            "Error budget left, 30 days",
            Says(
                "What is left of each objective's error budget: 100 % is untouched, at 0 the promise is broken.",
                "With little left, change less and carefully until it has grown again.",
            ),
            Query(f"clamp_min(min by (slo) (1 - {_SPENT}), 0)", "{{slo}}"),
            steps=((0.25, ORANGE), (0.5, GREEN)),
        ),
        lines(
            "Burn rate, 1 hour",
            Says(
                "How fast each error budget is spent: at 1 it lasts exactly 30 days. The dashed lines are where "
                "somebody is paged.",
                "Over a dashed line users suffer now: open the runbook of the alert.",
            ),
            Query(f'max by (slo) ({RATIO}1h{{job=~"$job"}} / {_BUDGET})', "{{slo}}"),
            unit=COUNT,
            steps=((FAST[1][0], ORANGE), (FAST[0][0], RED)),
        ),
    ],
)

_COURSE = Row(
    "What users get",
    [
        lines(
            "Outcomes",
            Says(
                "Requests that ended, by what became of them; each is in exactly one.",
                "timed_out: see 'Timeouts by phase'. rejected: 'Refusals'. errored: 'Stream errors' on the board of "
                "clients. cancelled: clients that left, or a shutdown.",
            ),
            Query(rate(rows.REQUESTS_TOTAL, by="outcome"), "{{outcome}}"),
            unit=PER_SECOND,
            stacked=True,
            colours=OUTCOME_COLOURS,
        ),
        lines(
            "Time to first token",
            Says(
                "From the request's headers to the first token written, against the models' budgets. The dots are "
                "traces: click one.",
                "Open a slow dot's trace and look for the longest phase.",
            ),
            *(
                Query(quantile(q, rows.TIME_TO_FIRST_TOKEN_SECONDS), f"p{q * 100:g}", exemplar=True)
                for q in (0.5, 0.95, 0.99)
            ),
            Query(
                most(rows.MODEL_BUDGET_SECONDS, 'limit="first_token"', by="model"),
                "budget {{model}}",
                limit=True,
            ),
            unit=SECONDS,
        ),
    ],
)

_WHERE = Row(
    "Where it goes wrong",
    [
        bars(
            "Budget used by phase, p95",
            Says(
                "How much of its time budget each phase uses in 95 % of its runs: at 100 % it runs out. stream.emit "
                "and tool.call, whose budgets are not for the whole of them, are not here.",
                "The longest bar is where to look; its runs are on 'Phases and budgets'.",
            ),
            Query(
                f"sort_desc({quantile(0.95, rows.PHASE_DURATION_SECONDS, _IN_TURN, by='phase')}\n"
                f"/ on (phase) {most(rows.PHASE_BUDGET_SECONDS, by='phase')} >= 0)",
                "{{phase}}",
            ),
            steps=((0.5, ORANGE), (0.9, RED)),
        ),
        lines(
            "Timeouts by phase",
            Says(
                "Phases that a budget ended, by the phase and its part.",
                "One phase: its dependency is slow. All at once: the process is, see 'Runtime and telemetry'.",
            ),
            Query(rate(rows.TIMEOUTS_TOTAL, by="phase"), "{{phase}}"),
            unit=PER_SECOND,
        ),
        lines(
            "Refusals by reason",
            Says(
                "Requests refused before their stream began, by reason.",
                "queue_full, deadline, tenant_queue_full: see 'Saturation'. rate, quota: who, is there too. "
                "unauthenticated, forbidden, invalid: a client to talk to.",
            ),
            Query(rate(rows.REJECTIONS_TOTAL, by="reason"), "{{reason}}"),
            unit=PER_SECOND,
        ),
        lines(
            "Requests in the house",
            Says(
                "Places for requests that are taken, against their limit, and requests that wait for one.",
                "Waiting while places are free is a bug; at the limit, see 'Saturation' for what is slow behind it.",
            ),
            Query(level(rows.CONCURRENCY_IN_USE, 'resource="requests"'), "in use"),
            Query(level(rows.ADMISSION_QUEUE_DEPTH, 'resource="requests"'), "waiting"),
            Query(level(rows.CONCURRENCY_LIMIT, 'resource="requests"'), "limit", limit=True),
            unit=COUNT,
        ),
    ],
)

BOARD = Board(
    "forebay-overview",
    "Forebay / Overview and SLOs",
    "Are users served, which phase eats the budget, who is refused and why, and which trace to open.",
    (_AT_A_GLANCE, _PROMISES, _COURSE, _WHERE),
)
