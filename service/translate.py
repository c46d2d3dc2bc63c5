"""Settings in the words of those who use them: milliseconds become seconds, rows become budgets and bounds."""

from __future__ import annotations

import platform
from functools import partial
from importlib.metadata import version
from typing import TYPE_CHECKING

from service.api.build import ApiOptions, endpoints
from service.chat.parts import Habits
from service.chat.turn import Budgets
from service.equipment import label_of, names_of
from service.jobs.evaluators import EVALUATORS
from service.retrieval.suggestions import SuggestionService
from service.settings import read_secret
from service.workforce import ALL_KINDS
from service.workforce import RESOURCE as JOBS
from telemetry import catalogue as rows
from telemetry import slo
from telemetry.catalogue import LabelSets
from telemetry.setup import Options

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from service.providers.rows import ProviderRow
    from service.settings import Settings
    from service.settings_groups import BudgetSettings, LimitSettings
    from telemetry.catalogue import Metric
    from telemetry.observe import Observer


def budgets_of(given: BudgetSettings) -> Budgets:
    """Return the plan's budgets in seconds."""
    return Budgets(
        total=given.total_ms / 1e3,
        phases={
            "input.validation": given.input_validation_ms / 1e3,
            "policy.check": given.policy_ms / 1e3,
            "context.load": given.context_ms / 1e3,
            "admission": given.admission_ms / 1e3,
            "retrieval.query": given.retrieval_ms / 1e3,
            "rerank": given.rerank_ms / 1e3,
            "model.stream": given.generation_ms / 1e3,
            "tool.call": given.tool_ms / 1e3,
            "finalize": given.finalization_ms / 1e3,
            "state.persist": given.finalization_ms / 1e3,
            "stream.emit": given.emit_ms / 1e3,
        },
        first_token=given.first_token_ms / 1e3,
        token_gap=given.token_gap_ms / 1e3,
        emit=given.emit_ms / 1e3,
        persist=given.finalization_ms / 1e3,
    )


def habits_of(settings: Settings) -> Habits:
    """Return what the settings say of every turn."""
    return Habits(
        grounding=settings.chat.grounding,
        documents=settings.chat.documents,
        suggestions=settings.suggestions.count,
        stream_queue=settings.limits.stream_queue,
        max_body=settings.server.max_body_bytes,
        queue_wait=settings.limits.queue_wait_ms / 1e3,
    )


def telemetry_options(
    settings: Settings, providers: Sequence[ProviderRow], budgets: Budgets, tenants: tuple[str, ...]
) -> Options:
    """Return what the telemetry is opened with: every label's values are named here, before the first request."""
    given, tools = settings.telemetry, names_of(settings)
    return Options(
        label_sets=LabelSets(
            endpoints=endpoints(),
            models=tuple(dict.fromkeys(model for row in providers for model in row.models)),
            providers=tuple(row.name for row in providers),
            provider_models=tuple((row.name, model) for row in providers for model in row.models),
            resources=(
                *("requests", "retrieval", "rerank", JOBS),
                *(f"model:{row.name}" for row in providers),
                *(f"tool:{name}" for name in tools),
            ),
            tools=(*tools, *map(label_of, settings.mcp)),
            kinds=tuple(ALL_KINDS),
            evaluators=tuple(one.name for one in EVALUATORS),
            tenants=tenants,
            versions=(version("forebay"),),
        ),
        resource={
            "service.name": "forebay",
            "service.version": version("forebay"),
            "host.name": platform.node(),
            "deployment.environment.name": settings.environment,
        },
        extra_bounds=_extra_bounds(budgets, providers),
        otlp_endpoint=given.otlp_endpoint,
        sample_ratio=given.sample_ratio,
        capture_content=given.capture_content,
        log_format=given.log_format,
    )


def _extra_bounds(budgets: Budgets, providers: Sequence[ProviderRow]) -> Mapping[Metric, tuple[float, ...]]:
    """Return what must be bounds of a histogram, or 'how many within budget' could not be asked: budgets and SLOs."""
    first = {budgets.first_token, slo.FIRST_TOKEN_SECONDS, *(row.first_token for row in providers if row.first_token)}
    gaps = {budgets.token_gap, slo.TOKEN_GAP_SECONDS, *(row.token_gap for row in providers if row.token_gap)}
    return {
        rows.PHASE_DURATION_SECONDS: tuple(sorted(set(budgets.phases.values()))),
        rows.TIME_TO_FIRST_TOKEN_SECONDS: tuple(sorted(first)),
        rows.PROVIDER_FIRST_TOKEN_SECONDS: tuple(sorted(first)),
        rows.STREAM_MAX_GAP_SECONDS: tuple(sorted(gaps)),
        rows.STREAM_DURATION_SECONDS: (budgets.total,),
        rows.ADMISSION_WAIT_SECONDS: (budgets.phases["admission"],),
    }


def show_budgets(budgets: Budgets, providers: Sequence[ProviderRow], observer: Observer) -> None:
    """Export the budgets in force, so that a threshold on a panel is the one that holds."""
    for phase, seconds in budgets.phases.items():
        observer.set(rows.PHASE_BUDGET_SECONDS, seconds, phase)
    for row in providers:
        limits = {
            "first_token": row.first_token or budgets.first_token,
            "gap": row.token_gap or budgets.token_gap,
            "generation": row.generation or budgets.phases["model.stream"],
            "total": row.total or budgets.total,
        }
        for model in row.models:
            for limit, seconds in limits.items():
                observer.set(rows.MODEL_BUDGET_SECONDS, seconds, model, limit)


def redis_url_of(given: LimitSettings, environ: Mapping[str, str]) -> str | None:
    """Return where limits are shared, None if each process counts for itself; raise SettingsError."""
    secret = read_secret(given.redis_url_env, given.redis_url_file, environ)
    return secret.get_secret_value() if secret and given.backend == "redis" else None


def suggestions_of(settings: Settings, environ: Mapping[str, str]) -> Callable[[Observer], SuggestionService] | None:
    """Return what makes the client of the service of suggestions; None without one; raise SettingsError."""
    given = settings.suggestions
    secret = read_secret(given.api_key_env, given.api_key_file, environ)
    key = secret.get_secret_value() if secret else ""
    return partial(SuggestionService, given.url, key, given.timeout_ms / 1e3) if given.url else None


def api_options(settings: Settings, environ: Mapping[str, str]) -> ApiOptions:
    """Return what the settings say of the routes; raise SettingsError if the metrics' token cannot be read."""
    server = settings.server
    token = read_secret(server.metrics_token_env, server.metrics_token_file, environ)
    return ApiOptions(
        version=version("forebay"),
        docs=settings.serves_docs,
        playground=settings.serves_playground,
        metrics_token=token.get_secret_value() if token else None,
        openai_retrieval=settings.openai.retrieval,
        hosts=server.allowed_hosts,
        cors_origins=server.cors_origins,
        ops_port=server.own_ops_port,
        trace_url=settings.telemetry.trace_url,
    )
