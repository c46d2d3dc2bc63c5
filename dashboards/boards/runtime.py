"""Is the process itself well, and can its telemetry be believed?"""

from __future__ import annotations

from dashboards.board import Board, Row
from dashboards.panels import BAD, COUNT, GOOD, PER_SECOND, SECONDS, WARN, Query, Says, lines, single
from dashboards.promql import level, quantile, rate, shown
from telemetry import catalogue as rows

_SCRAPED = '{job=~"$job", instance=~"$instance"} and on (job, instance) ' + shown(rows.BUILD_INFO)

_AT_A_GLANCE = Row(
    "Is the process well?",
    [
        single(
            "Processes",
            Says("Processes of Forebay that answer Prometheus.", "Fewer than you deployed: see which, below."),
            Query(f"count({shown(rows.BUILD_INFO)})"),
            unit=COUNT,
            steps=((1, GOOD),),
        ),
        single(
            "Event loop late, p99",
            Says(
                "How late the event loop is in one of a hundred callbacks: every stream is as late.",
                "Above 50 ms something blocks: in development the log has its stack as `event_loop_blocked`.",
            ),
            Query(quantile(0.99, rows.EVENT_LOOP_LAG_SECONDS)),
            unit=SECONDS,
            steps=((0.05, WARN), (0.1, BAD)),
        ),
        single(
            "Places held by nobody",
            Says("Places whose owner has ended. Always 0.", "Anything else is a bug: keep the traces, restart."),
            Query(level(rows.CONCURRENCY_UNOWNED)),
            unit=COUNT,
            steps=((1, BAD),),
        ),
        single(
            "Spans lost",
            Says("Sampled spans that did not reach the collector, per second.", "Is the collector up and fast enough?"),
            Query(rate(rows.TELEMETRY_SPANS_DROPPED_TOTAL)),
            unit=PER_SECOND,
            steps=((0.001, BAD),),
        ),
    ],
)

_COURSE = Row(
    "Its course",
    [
        lines(
            "Requests in flight",
            Says("Requests started and not yet ended, by route.", "Ever more of them while few arrive: they hang."),
            Query(level(rows.REQUESTS_IN_FLIGHT, by="route"), "{{route}}"),
            unit=COUNT,
        ),
        lines(
            "Requests started",
            Says("Requests whose headers arrived, by process.", "Uneven: the balancer holds on to connections."),
            Query(rate(rows.REQUESTS_STARTED_TOTAL, by="instance"), "{{instance}}"),
            unit=PER_SECOND,
        ),
        lines(
            "Event loop late",
            Says("How late callbacks run.", "p99 up and p50 not: single calls block. Both up: too little CPU."),
            *(Query(quantile(q, rows.EVENT_LOOP_LAG_SECONDS), f"p{q * 100:g}") for q in (0.5, 0.95, 0.99)),
            unit=SECONDS,
            steps=((0.1, BAD),),
        ),
        lines(
            "Telemetry lost",
            Says(
                "Spans that did not reach the collector, and log lines that their reader did not take.",
                "While this is not 0, traces and logs have holes; the metrics do not.",
            ),
            Query(rate(rows.TELEMETRY_SPANS_DROPPED_TOTAL), "spans"),
            Query(rate(rows.TELEMETRY_LOG_LINES_DROPPED_TOTAL), "log lines"),
            unit=PER_SECOND,
            top=1,
        ),
    ],
)

_SCRAPES = Row(
    "Prometheus's view",
    [
        lines(
            "Versions",
            Says("Processes by the version that they run.", "Two versions for longer than a deployment: one is stuck."),
            Query(f"count by (version) ({shown(rows.BUILD_INFO)})", "{{version}}"),
            unit=COUNT,
            width=8,
        ),
        lines(
            "Time of a scrape",
            Says(
                "How long Prometheus waits for /metrics.", "Near the scrape interval: fewer tenants by name, or models."
            ),
            Query(f"max by (instance) (scrape_duration_seconds{_SCRAPED})", "{{instance}}"),
            unit=SECONDS,
            width=8,
        ),
        lines(
            "Series of a scrape",
            Says("How many series each process shows.", "Label sets are closed: it grows with the configuration only."),
            Query(f"max by (instance) (scrape_samples_scraped{_SCRAPED})", "{{instance}}"),
            unit=COUNT,
            width=8,
        ),
    ],
)

BOARD = Board(
    "forebay-runtime",
    "Forebay / Runtime and telemetry",
    "Whether the process is well, and whether its telemetry can be believed.",
    (_AT_A_GLANCE, _COURSE, _SCRAPES),
)
