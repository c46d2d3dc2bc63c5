"""What Forebay shows of itself: every metric, span, attribute and log event, each with its meaning.

Code, dashboards, alerts, REFERENCE.md and tests read these rows; what has no row cannot be emitted. All names can be
imported from here.
"""

from __future__ import annotations

from telemetry.attributes import *  # noqa: F403  # the catalogue is one thing in five files
from telemetry.labels import *  # noqa: F403
from telemetry.metrics import *  # noqa: F403
from telemetry.rows import *  # noqa: F403
from telemetry.rows import LogEvent

LOG_STARTED = LogEvent("service_started", "info", "The process serves: address, version, settings that matter.")
LOG_STOPPING = LogEvent("service_stopping", "info", "The drain has begun: open streams and the time they have.")
LOG_STOPPED = LogEvent("service_stopped", "info", "Everything is closed.")
LOG_REQUEST = LogEvent(
    "request",
    "info",
    "The canonical line, one per counted request: route, outcome, decided_by, cause, code, tenant, model, "
    "time_to_first_token_ms, duration_ms, prompt_tokens, generated_tokens.",
)
LOG_JOB = LogEvent("job", "info", "The canonical line, one per job that ended: kind, outcome, attempts, duration_ms.")
LOG_BUG = LogEvent("bug", "error", "An exception that nobody foresaw: its class and our stack, without values.")
LOG_CLEANUP_OVERRUN = LogEvent("cleanup_overrun", "error", "A clean-up took longer than it may: what and how long.")
LOG_DEGRADED = LogEvent("degraded", "warning", "A dependency is down and the service goes on without it.")
LOG_RECOVERED = LogEvent("recovered", "info", "A dependency that was down works again.")
LOG_BLOCKED_LOOP = LogEvent("event_loop_blocked", "warning", "A call blocked the event loop: its stack.")
LOG_LABEL_REFUSED = LogEvent("label_refused", "error", "A label value outside its closed set; the point was dropped.")
LOG_TELEMETRY_UNREACHABLE = LogEvent(
    "telemetry_unreachable", "warning", "Spans do not reach the collector; dropped ones are counted."
)
LOG_TELEMETRY_REACHABLE = LogEvent("telemetry_reachable", "info", "Spans reach the collector again.")
LOG_PROVIDER_FAILED = LogEvent("provider_failed", "warning", "An attempt failed: provider, kind, status, request id.")
LOG_UNSETTLED = LogEvent("unsettled", "error", "How a turn ended could not be written; it is tried again.")
LOG_STATE_FAILED = LogEvent("state_failed", "error", "The state database failed: operation, class of the error.")
LOG_CIRCUIT = LogEvent("circuit", "warning", "The circuit breaker of a provider changed its state.")
LOG_CHEAPER_ROUTE = LogEvent(
    "cheaper_route",
    "info",
    "A tenant has little left of its day's cost and a cheaper provider answers: tenant, model, provider, instead_of.",
)
LOG_TOOL_INDETERMINATE = LogEvent(
    "tool_indeterminate", "error", "Nobody knows whether a side effect happened: a person must find out, by its call."
)
LOG_TEMPORAL = LogEvent(
    "temporal_unusable", "warning", "Temporal cannot be worked with: its address, and the failure. It is tried again."
)
LOG_INSTANCE_LOST = LogEvent("instance_lost", "warning", "Another process has gone; its work is taken over.")

LOG_EVENTS = tuple(row for row in tuple(globals().values()) if isinstance(row, LogEvent))
