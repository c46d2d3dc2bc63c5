"""What Forebay depends on and what it does on the side: model providers, tools, jobs."""

from __future__ import annotations

from dashboards.board import Board, Row
from dashboards.panels import BAD, COUNT, PER_SECOND, SECONDS, SHARE, WARN, Query, Says, lines
from dashboards.promql import level, most, quantile, rate, ratio, shown
from telemetry import catalogue as rows

_FAILED = rate(rows.PROVIDER_REQUESTS_TOTAL, 'outcome!~"ok|cancelled"', by="provider")

_PROVIDERS = Row(
    "Providers",
    [
        lines(
            "Attempts by outcome",
            Says(
                "Attempts sent to each provider, by how they ended.",
                "429: its limit. 5xx, connect: its trouble. 4xx: our request. timeout: too slow. malformed: nonsense.",
            ),
            Query(rate(rows.PROVIDER_REQUESTS_TOTAL, by="provider, outcome"), "{{provider}} {{outcome}}"),
            unit=PER_SECOND,
        ),
        lines(
            "Share of attempts that fail",
            Says("What share of a provider's attempts fails.", "Above the dashed line somebody gets a ticket."),
            Query(ratio(_FAILED, rate(rows.PROVIDER_REQUESTS_TOTAL, by="provider")), "{{provider}}"),
            unit=SHARE,
            steps=((0.2, BAD),),
        ),
        lines(
            "Provider's first token, p95",
            Says(
                "From an attempt sent to its first delta: the provider's own part of the time to the first token.",
                "If it grows and our limit falls, the provider is under load.",
            ),
            Query(
                quantile(0.95, rows.PROVIDER_FIRST_TOKEN_SECONDS, by="provider, model"),
                "{{provider}} {{model}}",
                exemplar=True,
            ),
            unit=SECONDS,
        ),
        lines(
            "Circuit breakers",
            Says(
                "The state of each provider's breaker, the worst of its models: 0 closed, 1 half open, 2 open.",
                "Open: nothing is sent there until it recovers; answers come from the fallback, if there is one.",
            ),
            Query(most(rows.PROVIDER_CIRCUIT_STATE, by="provider"), "{{provider}}"),
            unit=COUNT,
            steps=((1, WARN), (2, BAD)),
            top=2.2,
        ),
        lines(
            "Retries, made and denied",
            Says(
                "Attempts that were made again, by the failure before, and those that were not, by what forbade it.",
                "Denied for `budget`: retries are held back so that they do not make an outage worse.",
            ),
            Query(rate(rows.PROVIDER_RETRIES_TOTAL, by="reason"), "again after {{reason}}"),
            Query(rate(rows.PROVIDER_RETRIES_DENIED_TOTAL, by="reason"), "denied: {{reason}}"),
            unit=PER_SECOND,
        ),
        lines(
            "Tokens by model",
            Says("Tokens of prompts and of answers.", "The bill follows this."),
            Query(rate(rows.PROMPT_TOKENS_TOTAL, by="model"), "{{model}} prompt"),
            Query(rate(rows.GENERATED_TOKENS_TOTAL, by="model"), "{{model}} generated"),
            unit=PER_SECOND,
        ),
    ],
)

_TOOLS = Row(
    "Tools",
    [
        lines(
            "Tool calls by outcome",
            Says(
                "Tool calls that ended. `indeterminate`: whether a side effect happened is not known.",
                "failed and timed_out are the tool's; indeterminate ones must be looked at by a human.",
            ),
            Query(rate(rows.TOOL_CALLS_TOTAL, by="outcome"), "{{outcome}}"),
            unit=PER_SECOND,
            width=8,
        ),
        lines(
            "Tool duration, p95",
            Says("How long tools work, the wait for an approval excluded.", "A slow tool is a slow answer."),
            Query(quantile(0.95, rows.TOOL_DURATION_SECONDS, by="tool"), "{{tool}}", exemplar=True),
            unit=SECONDS,
            width=8,
        ),
        lines(
            "Approvals and replays",
            Says(
                "Calls that wait for a human, and calls that were answered with an earlier call's result.",
                "Approvals that pile up expire: somebody has to decide.",
            ),
            Query(level(rows.TOOL_APPROVALS_PENDING), "waiting for approval"),
            Query(f"sum (increase({shown(rows.TOOL_REPLAYS_TOTAL)}[$__rate_interval]))", "answered again"),
            unit=COUNT,
            width=8,
        ),
    ],
)

_JOBS = Row(
    "Jobs",
    [
        lines(
            "Jobs waiting and running",
            Says("Jobs that wait in the database, and those being worked on.", "A queue that grows wants workers."),
            Query(most(rows.JOBS_QUEUE_DEPTH, by="kind"), "{{kind}} waiting"),
            Query(level(rows.JOBS_RUNNING, by="kind"), "{{kind}} running"),
            unit=COUNT,
            width=8,
        ),
        lines(
            "Jobs: wait and work, p95",
            Says("From accepted to the first step, and from there to the end.", "Long waits: see the queue."),
            Query(quantile(0.95, rows.JOB_WAIT_SECONDS, by="kind"), "{{kind}} wait"),
            Query(quantile(0.95, rows.JOB_DURATION_SECONDS, by="kind"), "{{kind}} work"),
            unit=SECONDS,
            width=8,
        ),
        lines(
            "Jobs by outcome",
            Says(
                "Jobs that ended, and those taken over from a process that died.",
                "Recovered jobs outside of a deployment: processes die.",
            ),
            Query(rate(rows.JOBS_TOTAL, by="outcome"), "{{outcome}}"),
            Query(rate(rows.JOBS_RECOVERED_TOTAL), "recovered"),
            unit=PER_SECOND,
            width=8,
        ),
    ],
)

BOARD = Board(
    "forebay-providers",
    "Forebay / Providers, tools and jobs",
    "How model providers, tools and jobs do, apart from what Forebay makes of them.",
    (_PROVIDERS, _TOOLS, _JOBS),
)
