"""What is full, who waits, who is refused and for which reason: places, queues, tenants."""

from __future__ import annotations

from dashboards.board import Board, Row
from dashboards.panels import BAD, COUNT, PER_SECOND, SECONDS, SHARE, WARN, Query, Says, bars, lines, single
from dashboards.promql import level, most, quantile, rate, ratio
from dashboards.slos import OUR_REFUSALS
from telemetry import catalogue as rows

_STEPS = ((0.7, WARN), (0.9, BAD))
_IN_USE, _LIMIT = (level(row, by="resource") for row in (rows.CONCURRENCY_IN_USE, rows.CONCURRENCY_LIMIT))
_REQUESTS = 'resource="requests"'
_OVERLOAD = f'reason=~"{OUR_REFUSALS}|tenant_queue_full|tenant_concurrency"'

_AT_A_GLANCE = Row(
    "How full is the house?",
    [
        single(
            "Places taken",
            Says("Share of the places for requests that are taken.", "At 100 % requests wait: see what is slow below."),
            Query(ratio(level(rows.CONCURRENCY_IN_USE, _REQUESTS), level(rows.CONCURRENCY_LIMIT, _REQUESTS))),
            unit=SHARE,
            steps=_STEPS,
            width=8,
        ),
        single(
            "Waiting",
            Says("Requests that wait for a place, of whatever resource.", "A queue that stays is a resource too few."),
            Query(level(rows.ADMISSION_QUEUE_DEPTH)),
            unit=COUNT,
            steps=((10, WARN), (100, BAD)),
            width=8,
        ),
        single(
            "Refused for want of room",
            Says(
                "Share of the started requests that were refused because there was no room, no time or no provider.",
                "Add places or processes, or find what holds the places for so long.",
            ),
            Query(ratio(rate(rows.REJECTIONS_TOTAL, _OVERLOAD), rate(rows.REQUESTS_STARTED_TOTAL))),
            unit=SHARE,
            steps=((0.01, WARN), (0.05, BAD)),
            width=8,
        ),
    ],
)

_PLACES = Row(
    "Places",
    [
        bars(
            "In use against the limit",
            Says("How full each resource is now.", "The fullest one holds up the others."),
            Query(f"sort_desc({ratio(_IN_USE, _LIMIT)})", "{{resource}}"),
            steps=_STEPS,
        ),
        lines(
            "Places in use",
            Says(
                "Places taken of each resource, and how many there are; a model's limit adapts to how it does.",
                "A limit that falls follows a provider that slows down or refuses.",
            ),
            Query(_IN_USE, "{{resource}}"),
            Query(_LIMIT, "limit {{resource}}", limit=True),
            unit=COUNT,
        ),
        lines(
            "Waiting by resource",
            Says(
                "Requests that wait for a place.", "One resource: it is too few or too slow. All: the process is slow."
            ),
            Query(level(rows.ADMISSION_QUEUE_DEPTH, by="resource"), "{{resource}}"),
            unit=COUNT,
        ),
        lines(
            "Wait for a place, p95",
            Says(
                "Time from asking for a place to having it, or giving up, and how long one may wait.",
                "Near the budget, requests are about to be refused.",
            ),
            Query(quantile(0.95, rows.ADMISSION_WAIT_SECONDS, by="resource"), "{{resource}}", exemplar=True),
            Query(most(rows.PHASE_BUDGET_SECONDS, 'phase="admission"'), "budget", limit=True),
            unit=SECONDS,
        ),
    ],
)

_STREAMS = Row(
    "Streams and their readers",
    [
        lines(
            "Events waiting in streams",
            Says(
                "Events that wait in the queues of all open streams, and how deep single queues got.",
                "Deep queues mean slow readers: the model is held back, nothing is lost.",
            ),
            Query(level(rows.STREAM_QUEUE_DEPTH), "waiting now"),
            Query(quantile(0.99, rows.STREAM_QUEUE_HIGH_WATER), "deepest of a stream, p99", exemplar=True),
            unit=COUNT,
        ),
        lines(
            "Standing still",
            Says(
                "Seconds in each second that models were held back by a full queue, and that writes waited for "
                "readers. Counted when a stream ends.",
                "Slow networks do this, and clients that do work between two reads.",
            ),
            Query(rate(rows.PRODUCER_BLOCKED_SECONDS_TOTAL), "models held back"),
            Query(rate(rows.READER_BLOCKED_SECONDS_TOTAL), "writes waiting for readers"),
            unit=SECONDS,
        ),
    ],
)

_TENANTS = Row(
    "Tenants",
    [
        lines(
            "Places in use by tenant",
            Says(
                "Requests of each tenant that hold a place, and how many it may.",
                "One tenant at its limit waits for itself; the others are not touched.",
            ),
            Query(level(rows.TENANT_CONCURRENCY_IN_USE, by="tenant"), "{{tenant}}"),
            Query(level(rows.TENANT_CONCURRENCY_LIMIT, by="tenant"), "limit {{tenant}}", limit=True),
            unit=COUNT,
            width=8,
        ),
        lines(
            "Refusals by tenant",
            Says(
                "Who is refused and why, beside all that each tenant asked for.",
                "rate and quota are agreed limits: talk to the tenant, or raise them.",
            ),
            Query(rate(rows.TENANT_REJECTIONS_TOTAL, by="tenant, reason") + " > 0", "{{tenant}} {{reason}}"),
            Query(rate(rows.TENANT_REQUESTS_TOTAL, by="tenant"), "{{tenant}}: all", limit=True),
            unit=PER_SECOND,
            width=8,
        ),
        lines(
            "Tokens by tenant",
            Says("Tokens that each tenant's requests took and gave.", "A sudden rise is a loop in somebody's client."),
            Query(rate(rows.TENANT_TOKENS_TOTAL, by="tenant, direction"), "{{tenant}} {{direction}}"),
            unit=PER_SECOND,
            width=8,
        ),
    ],
)

BOARD = Board(
    "forebay-saturation",
    "Forebay / Saturation and backpressure",
    "What is full, who waits for it, who is refused and why.",
    (_AT_A_GLANCE, _PLACES, _STREAMS, _TENANTS),
)
