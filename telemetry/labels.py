"""The closed sets that label values come from: what is fixed stands here, what is configured is handed in at start.

A label with an open set lets one client fill the memory of Prometheus; so a value outside its set is never exported.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, fields

from telemetry.rows import OTHER, LabelSet

PHASES = (
    "input.validation",
    "policy.check",
    "context.load",
    "admission",
    "retrieval.query",
    "rerank",
    "model.stream",
    "tool.call",
    "stream.emit",
    "finalize",
    "state.persist",
)
PHASE_OUTCOMES = ("ok", "degraded", "rejected", "timeout", "cancelled", "abandoned", "error", "skipped")
REQUEST_OUTCOMES = ("completed", "degraded", "rejected", "timed_out", "cancelled", "errored")
CANCEL_CAUSES = ("client_disconnect", "client_cancel", "stalled_reader", "shutdown")
REJECTION_REASONS = (
    "rate",
    "quota",
    "tenant_concurrency",
    "tenant_queue_full",
    "queue_full",
    "deadline",
    "draining",
    "too_large",
    "unauthenticated",
    "forbidden",
    "invalid",
    "not_found",
    "conflict",
    "provider_unavailable",
    "timeout",
)
ERROR_CODES = (
    "invalid_request",
    "unauthenticated",
    "forbidden",
    "not_found",
    "conflict",
    "too_large",
    "rate_limited",
    "overloaded",
    "timeout",
    "provider_error",
    "provider_rate_limited",
    "content_filtered",
    "invalid_answer",
    "no_evidence",
    "retrieval_failed",
    "tool_failed",
    "persist_failed",
    "cancelled",
    "shutting_down",
    "internal",
)
PROVIDER_OUTCOMES = ("ok", "timeout", "connect", "429", "4xx", "5xx", "malformed", "cancelled")
COUNTED_ROUTES = ("/chat/stream", "/v1/chat/completions", "/jobs")
# What the service answers with; anything else would be a surprise and is counted as `other`.
STATUS_CODES = (
    *("200", "202", "204", "304", "307"),
    *("400", "401", "403", "404", "405", "409", "413", "415", "421", "422", "429", "431"),
    *("500", "502", "503", "504", OTHER),
)


def _singles(values: Iterable[str]) -> tuple[tuple[str, ...], ...]:
    return tuple((value,) for value in values)


def _split(phases: tuple[str, ...], *parts: str) -> tuple[str, ...]:
    """Put `parts` in the place of `model.stream`."""
    return tuple(part for phase in phases for part in (parts if phase == "model.stream" else (phase,)))


def _fixed(name: str, values: Iterable[str]) -> LabelSet:
    return LabelSet((name,), values=_singles(values))


ROUTE = LabelSet(("route",), source="routes")
ENDPOINT = LabelSet(("route", "method"), source="endpoints")
MODEL = LabelSet(("model",), source="models")
PROVIDER = LabelSet(("provider",), source="providers")
PROVIDER_MODEL = LabelSet(("provider", "model"), source="provider_models")
RESOURCE = LabelSet(("resource",), source="resources")
TENANT = LabelSet(("tenant",), source="tenants")
TOOL = LabelSet(("tool",), source="tools")
KIND = LabelSet(("kind",), source="kinds")
EVALUATOR = LabelSet(("evaluator",), source="evaluators")
VERSION = LabelSet(("version",), source="versions")

STATUS_CODE = _fixed("code", STATUS_CODES)
ERROR_CODE = _fixed("code", ERROR_CODES)
REQUEST_OUTCOME = _fixed("outcome", REQUEST_OUTCOMES)
PHASE_OUTCOME = _fixed("outcome", PHASE_OUTCOMES)
PROVIDER_OUTCOME = _fixed("outcome", PROVIDER_OUTCOMES)
TOOL_OUTCOME = _fixed("outcome", ("completed", "failed", "denied", "timed_out", "indeterminate", "cancelled"))
JOB_OUTCOME = _fixed("outcome", ("completed", "failed", "cancelled"))
SAMPLE_OUTCOME = _fixed("outcome", ("queued", "refused", "failed"))
EVALUATION_LABEL = _fixed("label", ("pass", "fail", "not_applicable"))
PHASE = _fixed("phase", PHASES)
TIMEOUT_PHASE = _fixed("phase", _split(PHASES, "model.first_token", "model.gap", "model.total"))
TIMEOUT_LIMIT = _fixed("limit", ("phase", "total", "client"))
LEFT_PHASE = _fixed("phase", _split(PHASES, "model.first_token", "model.tokens"))
CAUSE = _fixed("cause", CANCEL_CAUSES)
REJECTION = _fixed("reason", REJECTION_REASONS)
FIRST_TOKEN_MISSED = _fixed("reason", ("timeout", "error", "client_left", "shutdown"))
RETRY_REASON = _fixed("reason", ("timeout", "connect", "429", "4xx", "5xx", "malformed"))
RETRY_DENIED = _fixed("reason", ("budget", "deadline", "attempts", "circuit", "unsafe"))
MODEL_LIMIT = _fixed("limit", ("first_token", "gap", "generation", "total"))
DIRECTION = _fixed("direction", ("prompt", "generated"))
DEPENDENCY = _fixed("dependency", ("retrieval", "suggestions", "rerank", "model", "tool", "limits", "context", "jobs"))


@dataclass(frozen=True)
class LabelSets:
    """The label values that come from configuration: handed in at start, the same in every worker process.

    `endpoints` are pairs of route and method, `provider_models` pairs of provider and model. `tenants` and `tools` get
    the value `other` for whoever is not named; `endpoints` get it for unknown paths and methods.
    """

    routes: tuple[str, ...] = COUNTED_ROUTES
    endpoints: tuple[tuple[str, str], ...] = ()
    models: tuple[str, ...] = ()
    providers: tuple[str, ...] = ()
    provider_models: tuple[tuple[str, str], ...] = ()
    resources: tuple[str, ...] = ()
    tenants: tuple[str, ...] = ()
    tools: tuple[str, ...] = ()
    kinds: tuple[str, ...] = ()
    evaluators: tuple[str, ...] = ()
    versions: tuple[str, ...] = ("unknown",)

    MAX_TENANTS = 100  # five metrics carry the tenant, with about 30 series for each one

    def values(self, label_set: LabelSet) -> tuple[tuple[str, ...], ...]:
        """Return every value of `label_set`, as tuples as long as its names."""
        if label_set.values:
            return label_set.values
        given = getattr(self, label_set.source)
        if label_set is ENDPOINT:
            return (*given, (OTHER, OTHER))
        if label_set is TENANT:
            return _singles(dict.fromkeys((*given[: self.MAX_TENANTS], OTHER)))
        if label_set is TOOL:
            return _singles(dict.fromkeys((*given, OTHER)))
        return tuple(given) if len(label_set.names) > 1 else _singles(given)

    def __post_init__(self) -> None:
        for field in fields(self):
            values = getattr(self, field.name)
            if len(set(values)) != len(values):
                msg = f"{field.name} names a value twice: {values}"
                raise ValueError(msg)
