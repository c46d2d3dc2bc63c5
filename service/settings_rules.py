"""What no field can know alone: budgets that cannot be, rows that point nowhere, what production asks for.

A value that nobody set is never at fault: with a smaller total, the defaults below it simply end with it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import BaseModel

from service.settings_errors import Issue, Key

if TYPE_CHECKING:
    from service.settings import Settings
    from service.settings_groups import SuggestionSettings
    from service.settings_rows import McpSettings, ProviderSettings

# Each is within the whole. Not in here: approval_ms and emit_ms, which have clocks of their own.
WITHIN_TOTAL = (
    "input_validation_ms", "policy_ms", "context_ms", "admission_ms", "retrieval_ms", "rerank_ms", "generation_ms",
    "tool_ms", "finalization_ms",
)  # fmt: skip
WITHIN_GENERATION = ("first_token_ms", "token_gap_ms")
NAMES_A_USER = re.compile(r"https?://[^/?#]*@")


def issues(settings: Settings, environ: Mapping[str, str]) -> Iterator[Issue]:
    """Yield everything that is wrong between the values of `settings`."""
    yield from _budgets(settings)
    if "providers" in settings.model_fields_set:
        for index, row in enumerate(settings.providers):
            yield from _provider(settings, row, ("providers", index))
    yield from _backends(settings)
    yield from _secrets(settings, environ)
    yield from _addresses(settings)
    yield from _models(settings)
    if settings.environment == "production" and not settings.metrics_are_guarded:
        yield Issue(
            ("server", "metrics_token_env"),
            "in production /metrics needs a token (metrics_token_env) or a port of its own (ops_port)",
        )


def _budgets(settings: Settings) -> Iterator[Issue]:
    budgets = settings.budgets
    for inner in WITHIN_TOTAL:
        yield from _within(budgets, inner, "total_ms", budgets.total_ms, ("budgets",))
    outer = "total_ms" if budgets.total_ms < budgets.generation_ms else "generation_ms"
    for inner in WITHIN_GENERATION:
        yield from _within(budgets, inner, outer, getattr(budgets, outer), ("budgets",))
    yield from _within(settings.limits, "queue_wait_ms", "budgets.total_ms", budgets.total_ms, ("limits",))
    yield from _within(settings.limits, "tenant_requests", "requests", settings.limits.requests, ("limits",))
    yield from _within(settings.limits, "tenant_queue", "queue", settings.limits.queue, ("limits",))
    yield from _within(settings.jobs, "tenant_queue", "queue", settings.jobs.queue, ("jobs",))
    yield from _within(
        settings.suggestions, "timeout_ms", "budgets.retrieval_ms", budgets.retrieval_ms, ("suggestions",)
    )
    for name, tool in settings.tools.items():
        yield from _within(tool, "timeout_ms", "budgets.total_ms", budgets.total_ms, ("tools", name))


def _within(group: BaseModel, inner: str, outer: str, bound: int, key: Key) -> Iterator[Issue]:
    value = getattr(group, inner)
    if inner in group.model_fields_set and value is not None and value > bound:
        yield Issue((*key, inner), f"{value} is more than {outer} ({bound}), so it can never be reached")


def _provider(settings: Settings, row: ProviderSettings, key: Key) -> Iterator[Issue]:
    total = row.total_ms or settings.budgets.total_ms
    generation = min(row.generation_ms or settings.budgets.generation_ms, total)
    yield from _within(row, "generation_ms", "total_ms", total, key)
    yield from _within(row, "first_token_ms", "generation_ms", generation, key)
    yield from _within(row, "token_gap_ms", "generation_ms", generation, key)
    if row.kind in {"openai_compatible", "anthropic"} and not row.base_url:
        yield Issue((*key, "base_url"), f"a provider of kind {row.kind} needs its base_url")
    if any(other.name == row.name for other in settings.providers[: int(key[1])]):
        yield Issue((*key, "name"), "another row has this name already")
    for alias, model in row.aliases.items():
        if model not in row.models:
            yield Issue((*key, "aliases", alias), "an alias points to one of the row's models")
    if row.fallback:
        yield from _fallback(settings, row, (*key, "fallback"))


def _fallback(settings: Settings, row: ProviderSettings, key: Key) -> Iterator[Issue]:
    target = next((other for other in settings.providers if other.name == row.fallback), None)
    if target is None or target is row:
        yield Issue(key, "a fallback is the name of another row")
    elif not target.approved_fallback:
        yield Issue(key, f"the row {target.name} must say approved_fallback = true")
    elif target.kind == "simulated" and settings.environment == "production":
        yield Issue(key, "the simulated model stands in for no other in production")


def _backends(settings: Settings) -> Iterator[Issue]:
    limits, jobs = settings.limits, settings.jobs
    if limits.backend == "redis" and not (limits.redis_url_env or limits.redis_url_file):
        yield Issue(("limits", "redis_url_env"), 'backend = "redis" needs redis_url_env or redis_url_file')
    if jobs.engine == "temporal" and not jobs.temporal_address:
        yield Issue(("jobs", "temporal_address"), 'engine = "temporal" needs temporal_address')
    yield from _tool_servers(settings)


def _tool_servers(settings: Settings) -> Iterator[Issue]:
    names: set[str] = set()
    for index, row in enumerate(settings.mcp):
        if bool(row.command) == bool(row.url):
            yield Issue(("mcp", index), "give either command or url")
        if row.command and (row.api_key_env or row.api_key_file):
            yield Issue(("mcp", index, "api_key_env"), "a key is for a url; a command gets its secrets by environment")
        if row.url and row.environment:
            yield Issue(("mcp", index, "environment"), "variables are for a command; a url gets a key by api_key_env")
        if any(other.name == row.name for other in settings.mcp[:index]):
            yield Issue(("mcp", index, "name"), "another row has this name already")
        if len(names | set(row.tools)) < len(names) + len(row.tools):
            yield Issue(("mcp", index, "tools"), "a tool's name stands for one tool only, in all rows together")
        names |= set(row.tools)


def _secrets(settings: Settings, environ: Mapping[str, str]) -> Iterator[Issue]:
    """Yield the secrets that are named and not there. In development a provider may do without: it may need none."""
    yield from _secret(settings.server, "metrics_token", ("server",), environ)
    yield from _secret(settings.limits, "redis_url", ("limits",), environ)
    yield from _secret(settings.suggestions, "api_key", ("suggestions",), environ)
    for index, server in enumerate(settings.mcp):
        yield from _secret(server, "api_key", ("mcp", index), environ)
        for name in server.environment:
            if name not in environ:
                yield Issue(("mcp", index, "environment"), f"the variable {name} is not set")
    if settings.environment == "production":
        for index, row in enumerate(settings.providers):
            yield from _secret(row, "api_key", ("providers", index), environ)


def _secret(group: BaseModel, secret: str, key: Key, environ: Mapping[str, str]) -> Iterator[Issue]:
    variable, path = getattr(group, f"{secret}_env"), getattr(group, f"{secret}_file")
    if variable and path:
        yield Issue((*key, f"{secret}_file"), f"give either {secret}_env or {secret}_file")
    elif variable and not environ.get(variable):
        yield Issue((*key, f"{secret}_env"), f"the variable {variable} is not set")
    elif path and not Path(path).is_file():
        yield Issue((*key, f"{secret}_file"), "the file is not there")


def _addresses(settings: Settings) -> Iterator[Issue]:
    """Yield the addresses that say who asks where a key says so too: clients send one of the two, or refuse both."""
    for index, row in enumerate(settings.providers):
        yield from _address(row, "base_url", ("providers", index), f"the row {row.name}")
    for index, server in enumerate(settings.mcp):
        yield from _address(server, "url", ("mcp", index), f"the row {server.name}")
    yield from _address(settings.suggestions, "url", ("suggestions",), "the section")


def _address(
    row: ProviderSettings | McpSettings | SuggestionSettings, field: str, key: Key, what: str
) -> Iterator[Issue]:
    if (row.api_key_env or row.api_key_file) and NAMES_A_USER.match(getattr(row, field)):
        yield Issue((*key, field), f"{what} has a key, so its address may not have a user or a password")


def _models(settings: Settings) -> Iterator[Issue]:
    wanted = settings.default_model
    known = {name for row in settings.providers for name in (*row.models, *row.aliases)}
    simulated = any(row.kind == "simulated" for row in settings.providers) and wanted.startswith("sim:")
    if not settings.providers:
        yield Issue(("providers",), "at least one provider is needed")
    elif wanted and wanted not in known and not simulated:
        yield Issue(("default_model",), "no provider has this model")
