"""The alerts on causes, as data: tickets that say where to look, and the two that page because users feel them at once.

Never a page: refusals for rate, quota, authentication or invalid input, a breaker with a fallback that works,
dependencies that an answer can do without, clients' own time limits.
"""

from __future__ import annotations

from dashboards import conditions
from dashboards.rules import Alert, Group

OVERVIEW, PHASES, SATURATION = "forebay-overview", "forebay-phases", "forebay-saturation"
CLIENTS, PROVIDERS, RUNTIME = "forebay-clients", "forebay-providers", "forebay-runtime"

CAUSES = (
    Alert(
        "ForebayDown",
        "targets",
        "critical",
        conditions.down(),
        "2m",
        "Forebay does not answer Prometheus at all",
        "No process of job {{ $labels.job }} has been scraped for two minutes: it is down, or out of sight.",
        RUNTIME,
    ),
    Alert(
        "ForebayInstanceDown",
        "targets",
        "warning",
        conditions.instance_down(),
        "5m",
        "A process of Forebay does not answer Prometheus",
        "{{ $labels.instance }} of job {{ $labels.job }} has not been scraped for five minutes.",
        RUNTIME,
    ),
    Alert(
        "ForebayClientsLeaveBeforeFirstToken",
        "disconnects",
        "critical",
        conditions.disconnects(conditions.BEFORE_ANYTHING, over=0.25),
        "5m",
        "Clients give up before they have seen a first token",
        "Job {{ $labels.job }}: {{ $value | humanizePercentage }} of the admitted requests lost their client before "
        "the first token. They are too slow for their users, or a proxy in between cuts them.",
        CLIENTS,
    ),
    Alert(
        "ForebayClientsLeave",
        "disconnects",
        "warning",
        conditions.disconnects(over=0.3),
        "15m",
        "Many clients leave before their answer is complete",
        "Job {{ $labels.job }}: {{ $value | humanizePercentage }} of the admitted requests lost their client.",
        CLIENTS,
    ),
    Alert(
        "ForebayStalledReaders",
        "disconnects",
        "warning",
        conditions.stalled_readers(),
        "5m",
        "Clients hold connections that they do not read",
        "Job {{ $labels.job }}: {{ $value | humanizePercentage }} of the requests are dropped for a stalled reader.",
        CLIENTS,
    ),
    Alert(
        "ForebayCancellationsSlow",
        "disconnects",
        "warning",
        conditions.slow_cancellations(),
        "10m",
        "What cancelled requests held is given back late",
        "Job {{ $labels.job }}: one cancellation in a hundred takes {{ $value | humanizeDuration }} to clean up.",
        CLIENTS,
    ),
    Alert(
        "ForebayPhaseTimesOut",
        "timeouts",
        "warning",
        conditions.timeouts(),
        "5m",
        "A phase runs out of its budget",
        "Job {{ $labels.job }}: {{ $value | humanizePercentage }} of the runs of {{ $labels.phase }} end by a budget.",
        PHASES,
    ),
    Alert(
        "ForebaySaturated",
        "saturation",
        "warning",
        conditions.saturated(),
        "10m",
        "A resource is used up and requests wait for it",
        "Job {{ $labels.job }}: {{ $value | humanizePercentage }} of the places of {{ $labels.resource }} are taken.",
        SATURATION,
    ),
    Alert(
        "ForebayOverloaded",
        "refusals",
        "warning",
        conditions.overloaded(),
        "5m",
        "Requests are refused for want of room",
        "Job {{ $labels.job }}: {{ $value | humanizePercentage }} of the requests are refused: queues are full, "
        "deadlines cannot be met, or no provider answers.",
        SATURATION,
    ),
    Alert(
        "ForebayProviderFails",
        "providers",
        "warning",
        conditions.provider_errors(),
        "5m",
        "A model provider fails",
        "Job {{ $labels.job }}: {{ $value | humanizePercentage }} of the attempts at {{ $labels.provider }} fail.",
        PROVIDERS,
    ),
    Alert(
        "ForebayCircuitOpen",
        "providers",
        "warning",
        conditions.circuit_open(),
        "1m",
        "A provider's circuit breaker is open",
        "Job {{ $labels.job }} sends nothing to {{ $labels.provider }}, or to one of its models, until it recovers.",
        PROVIDERS,
    ),
    Alert(
        "ForebayDependencyMissing",
        "degradation",
        "warning",
        conditions.dependency_missing(),
        "10m",
        "Answers have to do without a dependency",
        "Job {{ $labels.job }}: {{ $value | humanizePercentage }} of the requests go without {{ $labels.dependency }}.",
        PHASES,
    ),
    Alert(
        "ForebayDependencyGone",
        "degradation",
        "warning",
        conditions.dependency_gone(),
        "2m",
        "A dependency that all answers share is gone",
        "Job {{ $labels.job }} goes on without what its {{ $labels.dependency }} rely on.",
        PHASES,
    ),
    Alert(
        "ForebayJobsWait",
        "jobs",
        "warning",
        conditions.jobs_wait(),
        "10m",
        "Jobs wait too long",
        "Job {{ $labels.job }}: work of kind {{ $labels.kind }} waits long, or none of it is begun.",
        PROVIDERS,
    ),
    Alert(
        "ForebayPlacesLeak",
        "leaks",
        "warning",
        conditions.leak(),
        "2m",
        "Places are held by nobody",
        "Job {{ $labels.job }}: {{ $value }} places of {{ $labels.resource }} belong to work that has ended.",
        RUNTIME,
    ),
    Alert(
        "ForebayBug",
        "runtime",
        "warning",
        conditions.bugs(),
        "1m",
        "Something failed that nobody foresaw",
        "Job {{ $labels.job }}: {{ $value | humanize }} internal errors within ten minutes.",
        RUNTIME,
    ),
    Alert(
        "ForebayEventLoopBlocked",
        "runtime",
        "warning",
        conditions.blocked_loop(),
        "5m",
        "The event loop is late: every stream stutters",
        "{{ $labels.instance }} of job {{ $labels.job }}: one callback in a hundred is {{ $value | humanizeDuration }} "
        "late.",
        RUNTIME,
    ),
    Alert(
        "ForebayTelemetryDropped",
        "telemetry",
        "warning",
        conditions.telemetry_dropped(),
        "1m",
        "Spans or log lines are lost",
        "Job {{ $labels.job }}: {{ $value | humanize }} spans and lines were lost within ten minutes.",
        RUNTIME,
    ),
)


def cause_group() -> Group:
    """Return the alerts on causes."""
    return Group("forebay-causes", CAUSES)
