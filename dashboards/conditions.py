"""When something is wrong, in PromQL: the expressions behind the alerts on causes (causes.py).

Each ratio has a floor of traffic beside it, or one unlucky request at night would tell somebody.
"""

from __future__ import annotations

from dashboards.promql import every
from dashboards.slos import OUR_REFUSALS
from telemetry import catalogue as rows
from telemetry.catalogue import Metric

# In these phases of the flow a client that leaves has seen nothing yet.
BEFORE_ANYTHING = (
    'phase=~"input.validation|policy.check|context.load|admission|retrieval.query|rerank|model.first_token"'
)
_PROVIDERS_FAULT = 'outcome=~"timeout|connect|429|5xx|malformed"'


def _rate(row: Metric, *matchers: str, by: str = "job", part: str = "") -> str:
    return f"sum by ({by}) (rate({every(row, *matchers, part=part)}[5m]))"


def _share(bad: str, of: str, *, over: float, floor: float) -> str:
    """`bad` is more than the share `over` of `of`, and more than `floor` in a second."""
    return f"{bad}\n/ {of}\n> {over}\nand {bad} > {floor}"


def down() -> str:
    """A job that was there within the last day and is gone, or none has been there at all."""
    seen = every(rows.BUILD_INFO)
    return (
        f"group by (job) (last_over_time({seen}[1d]))\nunless group by (job) ({seen})\n"
        f"or absent(last_over_time({seen}[1d]))"
    )


def instance_down() -> str:
    """One process of several does not answer."""
    return f"up == 0\nand on (job, instance) last_over_time({every(rows.BUILD_INFO)}[1h])"


def timeouts() -> str:
    """Too many runs of a phase end by its budget; the parts of model.stream are held against all of it."""
    ended = _rate(rows.PHASE_OUTCOMES_TOTAL, 'outcome!="skipped"', by="job, phase")
    streams = _rate(rows.PHASE_OUTCOMES_TOTAL, 'phase="model.stream"')
    parts = "".join(
        f'\n  or label_replace({streams}, "phase", "{part}", "", "")'
        for part in ("model.first_token", "model.gap", "model.total")
    )
    of = f"(\n  {ended}{parts}\n)"
    return _share(_rate(rows.TIMEOUTS_TOTAL, 'limit!="client"', by="job, phase"), of, over=0.05, floor=0.01)


def disconnects(*matchers: str, over: float) -> str:
    """Too many of those that were admitted leave."""
    admitted = f"({_rate(rows.REQUESTS_STARTED_TOTAL)} - {_rate(rows.REJECTIONS_TOTAL)})"
    return _share(_rate(rows.CLIENT_DISCONNECTS_TOTAL, *matchers), admitted, over=over, floor=0.03)


def stalled_readers() -> str:
    """Connections are held by readers that read nothing."""
    stalled = _rate(rows.CANCELLATIONS_TOTAL, 'cause="stalled_reader"')
    return _share(stalled, _rate(rows.REQUESTS_STARTED_TOTAL), over=0.02, floor=0.005)


def slow_cancellations() -> str:
    """What a cancelled request held is given back late."""
    return f"{_quantile(0.99, rows.CANCEL_LATENCY_SECONDS)}\n> 1"


def saturated() -> str:
    """A resource is all but used up, and requests wait for it."""
    by = "sum by (job, resource)"
    in_use, limit, waiting = (
        f"{by} (avg_over_time({every(row)}[5m]))"
        for row in (rows.CONCURRENCY_IN_USE, rows.CONCURRENCY_LIMIT, rows.ADMISSION_QUEUE_DEPTH)
    )
    return f"{in_use}\n/ {limit}\n> 0.9\nand {waiting} > 0.5"


def overloaded() -> str:
    """Requests are refused for which there was no room or no provider."""
    refused = _rate(rows.REJECTIONS_TOTAL, f'reason=~"{OUR_REFUSALS}|tenant_queue_full"')
    return _share(refused, _rate(rows.REQUESTS_STARTED_TOTAL), over=0.05, floor=0.02)


def provider_errors() -> str:
    """A provider fails too many attempts."""
    failed = _rate(rows.PROVIDER_REQUESTS_TOTAL, _PROVIDERS_FAULT, by="job, provider")
    return _share(failed, _rate(rows.PROVIDER_REQUESTS_TOTAL, by="job, provider"), over=0.2, floor=0.02)


def circuit_open() -> str:
    """No calls go to a provider."""
    return f"max by (job, provider) ({every(rows.PROVIDER_CIRCUIT_STATE)})\n== 2"


def dependency_missing() -> str:
    """Answers go without a dependency."""
    missed = _rate(rows.DEGRADATIONS_TOTAL, by="job, dependency")
    of = f"on (job) group_left ()\n{_rate(rows.REQUESTS_STARTED_TOTAL)}"
    return _share(missed, of, over=0.05, floor=0.01)


def dependency_gone() -> str:
    """Processes go on without a dependency that all their answers share."""
    return f"max by (job, dependency) ({every(rows.DEPENDENCY_GONE)})\n> 0"


def jobs_wait() -> str:
    """Jobs wait long for their first step, or none is begun while some wait."""
    begun = _rate(rows.JOB_WAIT_SECONDS, by="job, kind", part="count")
    return (
        f"{_quantile(0.95, rows.JOB_WAIT_SECONDS, 'job, kind')} > 300\nor\n"
        f"max by (job, kind) (min_over_time({every(rows.JOBS_QUEUE_DEPTH)}[15m])) > 0\nunless {begun} > 0"
    )


def leak() -> str:
    """Places whose owner has ended."""
    return f"sum by (job, resource) ({every(rows.CONCURRENCY_UNOWNED)})\n> 0"


def bugs() -> str:
    """Errors that nobody foresaw."""
    errors = every(rows.STREAM_ERRORS_TOTAL, 'code="internal"')
    answers = every(rows.HTTP_RESPONSES_TOTAL, 'code="500"')
    return f"sum by (job) (increase({errors}[10m])) + sum by (job) (increase({answers}[10m]))\n> 0"


def blocked_loop() -> str:
    """The event loop is late."""
    return f"{_quantile(0.99, rows.EVENT_LOOP_LAG_SECONDS, 'job, instance')}\n> 0.1"


def telemetry_dropped() -> str:
    """Spans or lines are lost."""
    spans, lines = every(rows.TELEMETRY_SPANS_DROPPED_TOTAL), every(rows.TELEMETRY_LOG_LINES_DROPPED_TOTAL)
    return f"sum by (job) (increase({spans}[10m])) + sum by (job) (increase({lines}[10m]))\n> 0"


def _quantile(q: float, row: Metric, by: str = "job") -> str:
    return f"histogram_quantile({q}, {_rate(row, by=f'le, {by}', part='bucket')})"
