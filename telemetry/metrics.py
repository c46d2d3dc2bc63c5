"""Every metric of Forebay, a row each. To add one: a row here and a call of the observer; a test fails for a row alone.

The constant is the metric's name in capitals, without the prefix `forebay_`.
"""

from __future__ import annotations

from telemetry import labels as of
from telemetry.rows import Metric, counter, gauge, histogram

# Bounds in seconds. The first two follow the GenAI semantic conventions, which end at 10 s: a slow start is what we are
# here to see, so they go on to 80.
_FIRST_TOKEN = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0, 20.0, 40.0, 80.0)
_STREAM = (0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 15.0, 20.0, 25.0, 40.0, 80.0, 160.0)
_GAP = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0)
_PHASE = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0)
_WAIT = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 5.0, 10.0)
_CLEAN_UP = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)
_JOB = (0.01, 0.05, 0.1, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 900.0, 3600.0)
_LAG = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)
_SCORE = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
_EVENTS = (0.0, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0)

# --- requests -----------------------------------------------------------------------------------------------------

REQUESTS_STARTED_TOTAL = counter(
    "requests_started_total", "Requests whose headers have arrived, refused ones included.", of.ROUTE
)
REQUESTS_TOTAL = counter("requests_total", "Requests that ended, each with one outcome.", of.ROUTE, of.REQUEST_OUTCOME)
REQUESTS_IN_FLIGHT = gauge("requests_in_flight", "Requests started and not yet ended.", of.ROUTE)
HTTP_RESPONSES_TOTAL = counter(
    "http_responses_total", "HTTP responses of every route, by status code.", of.ENDPOINT, of.STATUS_CODE
)
REJECTIONS_TOTAL = counter(
    "rejections_total", "Requests refused before their stream began, by reason.", of.ROUTE, of.REJECTION
)
CANCELLATIONS_TOTAL = counter(
    "cancellations_total",
    "Requests cancelled, by cause and by the phase that was running.",
    of.ROUTE,
    of.CAUSE,
    of.LEFT_PHASE,
)
CLIENT_DISCONNECTS_TOTAL = counter(
    "client_disconnects_total",
    "Clients that closed between admission and the hand-over of the terminal event, by the phase of the flow.",
    of.ROUTE,
    of.LEFT_PHASE,
)
CANCEL_LATENCY_SECONDS = histogram(
    "cancel_latency_seconds",
    "From the cause of a cancellation seen to the upstream closed and every place given back.",
    bounds=_CLEAN_UP,
)
STREAM_ERRORS_TOTAL = counter("stream_errors_total", "Streams ended by an error event, by its code.", of.ERROR_CODE)

# --- the stream ---------------------------------------------------------------------------------------------------

TIME_TO_FIRST_TOKEN_SECONDS = histogram(
    "time_to_first_token_seconds",
    "From the request's headers to its first token_delta written; streamed turns that were generated only.",
    of.ROUTE,
    of.MODEL,
    bounds=_FIRST_TOKEN,
)
FIRST_TOKEN_MISSED_TOTAL = counter(
    "first_token_missed_total",
    "Admitted streams that ended before a first token: without these the histogram looks best in an outage.",
    of.ROUTE,
    of.FIRST_TOKEN_MISSED,
)
STREAM_DURATION_SECONDS = histogram(
    "stream_duration_seconds",
    "From the headers of an admitted request to its end.",
    of.MODEL,
    of.REQUEST_OUTCOME,
    bounds=_STREAM,
)
STREAM_MAX_GAP_SECONDS = histogram(
    "stream_max_gap_seconds", "The longest silence of the model within one stream.", of.MODEL, bounds=_GAP
)
GENERATED_TOKENS_TOTAL = counter(
    "generated_tokens_total", "Tokens generated, by the outcome of their turn.", of.MODEL, of.REQUEST_OUTCOME
)
PROMPT_TOKENS_TOTAL = counter("prompt_tokens_total", "Tokens of prompts sent to a model.", of.MODEL)
WASTED_TOKENS_TOTAL = counter(
    "wasted_tokens_total", "Tokens received from a provider after the client had gone.", of.MODEL
)
STREAM_QUEUE_DEPTH = gauge("stream_queue_depth", "Events waiting in the queues of all open streams.")
STREAM_QUEUE_HIGH_WATER = histogram(
    "stream_queue_high_water", "The most events that ever waited in one stream's queue.", bounds=_EVENTS
)
PRODUCER_BLOCKED_SECONDS_TOTAL = counter(
    "producer_blocked_seconds_total", "Time that producers stood still because their stream's queue was full."
)
READER_BLOCKED_SECONDS_TOTAL = counter(
    "reader_blocked_seconds_total", "Time that writes waited for a reader to take them."
)

# --- places -------------------------------------------------------------------------------------------------------

CONCURRENCY_IN_USE = gauge("concurrency_in_use", "Places of a resource that are taken.", of.RESOURCE)
CONCURRENCY_LIMIT = gauge(
    "concurrency_limit", "Places of a resource that this process may hand out at present.", of.RESOURCE
)
CONCURRENCY_UNOWNED = gauge(
    "concurrency_unowned", "Places whose owner has ended without giving them back: always 0.", of.RESOURCE
)
ADMISSION_QUEUE_DEPTH = gauge("admission_queue_depth", "Requests waiting for a place of a resource.", of.RESOURCE)
ADMISSION_WAIT_SECONDS = histogram(
    "admission_wait_seconds", "Time from asking for a place to having it or giving up.", of.RESOURCE, bounds=_WAIT
)
TENANT_CONCURRENCY_IN_USE = gauge("tenant_concurrency_in_use", "Requests of a tenant that hold a place.", of.TENANT)
TENANT_CONCURRENCY_LIMIT = gauge(
    "tenant_concurrency_limit", "Requests that a tenant may have at once in this process.", of.TENANT
)
TENANT_REQUESTS_TOTAL = counter(
    "tenant_requests_total", "Requests of a tenant that ended, by outcome.", of.TENANT, of.REQUEST_OUTCOME
)
TENANT_REJECTIONS_TOTAL = counter(
    "tenant_rejections_total", "Requests of a tenant that were refused, by reason.", of.TENANT, of.REJECTION
)
TENANT_TOKENS_TOTAL = counter(
    "tenant_tokens_total", "Tokens of a tenant, of prompts and generated.", of.TENANT, of.DIRECTION
)

# --- phases -------------------------------------------------------------------------------------------------------

PHASE_DURATION_SECONDS = histogram(
    "phase_duration_seconds", "Time from a phase's start to its end.", of.PHASE, bounds=_PHASE
)
PHASE_OUTCOMES_TOTAL = counter("phase_outcomes_total", "Phases that ended, by outcome.", of.PHASE, of.PHASE_OUTCOME)
PHASE_BUDGET_SECONDS = gauge(
    "phase_budget_seconds", "The budget of a phase, as configured and in force.", of.PHASE, across="max"
)
MODEL_BUDGET_SECONDS = gauge(
    "model_budget_seconds",
    "The budgets of a model, as configured and in force.",
    of.MODEL,
    of.MODEL_LIMIT,
    across="max",
)
TIMEOUTS_TOTAL = counter(
    "timeouts_total", "Phases ended by a budget, by whose budget it was.", of.TIMEOUT_PHASE, of.TIMEOUT_LIMIT
)
DEGRADATIONS_TOTAL = counter(
    "degradations_total", "Times that an answer had to do without a dependency.", of.DEPENDENCY
)
DEPENDENCY_GONE = gauge(
    "dependency_gone",
    "1 while the process goes on without a dependency that its answers share: counted once, however long it lasts.",
    of.DEPENDENCY,
    across="max",
)

# --- providers, tools, jobs ---------------------------------------------------------------------------------------

PROVIDER_FIRST_TOKEN_SECONDS = histogram(
    "provider_first_token_seconds",
    "From an attempt sent to a provider to its first delta.",
    of.PROVIDER_MODEL,
    bounds=_FIRST_TOKEN,
)
PROVIDER_REQUESTS_TOTAL = counter(
    "provider_requests_total", "Attempts sent to a provider, by outcome.", of.PROVIDER, of.PROVIDER_OUTCOME
)
PROVIDER_RETRIES_TOTAL = counter(
    "provider_retries_total", "Attempts that were made again, by the failure before.", of.PROVIDER, of.RETRY_REASON
)
PROVIDER_RETRIES_DENIED_TOTAL = counter(
    "provider_retries_denied_total",
    "Attempts that were not made again, by what forbade it.",
    of.PROVIDER,
    of.RETRY_DENIED,
)
PROVIDER_CIRCUIT_STATE = gauge(
    "provider_circuit_state",
    "The circuit breaker of a provider, the worst of its models: 0 closed, 1 half open, 2 open.",
    of.PROVIDER,
    across="max",
)
TOOL_CALLS_TOTAL = counter("tool_calls_total", "Tool calls that ended, by outcome.", of.TOOL, of.TOOL_OUTCOME)
TOOL_DURATION_SECONDS = histogram(
    "tool_duration_seconds", "Time that a tool worked, waiting for approval excluded.", of.TOOL, bounds=_PHASE
)
TOOL_REPLAYS_TOTAL = counter(
    "tool_replays_total", "Tool calls answered with the stored result of an earlier one.", of.TOOL
)
TOOL_APPROVALS_PENDING = gauge("tool_approvals_pending", "Tool calls of this process that wait for an approval.")
JOBS_QUEUE_DEPTH = gauge(
    "jobs_queue_depth",
    "Jobs that wait in the state database: the same number in every process.",
    of.KIND,
    across="max",
)
JOBS_RUNNING = gauge("jobs_running", "Jobs that this process is working on.", of.KIND)
JOB_WAIT_SECONDS = histogram("job_wait_seconds", "From a job accepted to its first step.", of.KIND, bounds=_JOB)
JOB_DURATION_SECONDS = histogram("job_duration_seconds", "From a job's first step to its end.", of.KIND, bounds=_JOB)
JOBS_TOTAL = counter("jobs_total", "Jobs that ended, by outcome.", of.KIND, of.JOB_OUTCOME)
JOBS_RECOVERED_TOTAL = counter(
    "jobs_recovered_total", "Jobs taken over from a process that died, at their last checkpoint.", of.KIND
)

# --- what answers are worth ---------------------------------------------------------------------------------------

EVALUATIONS_SAMPLED_TOTAL = counter(
    "evaluations_sampled_total",
    "Finished turns drawn to be evaluated: queued, refused by a full queue, or lost (database, end of the process).",
    of.SAMPLE_OUTCOME,
)
EVALUATIONS_TOTAL = counter(
    "evaluations_total", "Finished turns that an evaluator has judged, by its label.", of.EVALUATOR, of.EVALUATION_LABEL
)
EVALUATION_SCORE = histogram(
    "evaluation_score",
    "The score that an evaluator has given a finished turn, from 0 to 1, higher for better.",
    of.EVALUATOR,
    bounds=_SCORE,
)

# --- the process --------------------------------------------------------------------------------------------------

EVENT_LOOP_LAG_SECONDS = histogram(
    "event_loop_lag_seconds", "How late the event loop runs a callback that is due.", bounds=_LAG
)
TELEMETRY_SPANS_DROPPED_TOTAL = counter(
    "telemetry_spans_dropped_total", "Sampled spans that never reached the collector: queue full or export failed."
)
TELEMETRY_LOG_LINES_DROPPED_TOTAL = counter(
    "telemetry_log_lines_dropped_total", "Log lines thrown away because their reader did not keep up."
)
BUILD_INFO = gauge("build_info", "Always 1; the label says which version runs.", of.VERSION, across="max")

METRICS = tuple(row for row in tuple(globals().values()) if isinstance(row, Metric))
