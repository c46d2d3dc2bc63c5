"""Which providers there are, and which of the configured ones a model id means.

To add a provider: its file, and a row of `_KINDS`. Called by the composition root.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from service.errors import NotFound
from service.ports import Model
from service.providers import local, simulated_parameters
from service.providers.anthropic import VERSION, Anthropic
from service.providers.openai_compatible import OpenAICompatible
from service.providers.rows import Kind, ProviderRow
from service.providers.simulated import SimulatedModel
from service.providers.upstream import Upstream
from telemetry.observe import Observer


@dataclass(frozen=True, slots=True)
class Means:
    """What providers are built with: the observer, the wall clock (Unix seconds), and a row's key ("" for none)."""

    observer: Observer
    now: Callable[[], float]
    key: str = ""


def build(row: ProviderRow, means: Means) -> Model:
    """Make the model of a row; its work in the background, if it has any, begins. Called in the running event loop."""
    return _KINDS[row.kind](row, means)


def _openai_compatible(row: ProviderRow, means: Means) -> Model:
    return OpenAICompatible(row, _upstream(row, row.base_url, means, _bearer(means.key)))


def _anthropic(row: ProviderRow, means: Means) -> Model:
    key = {"x-api-key": means.key} if means.key else {}
    base_url = row.base_url.rstrip("/")
    base_url = base_url if base_url.endswith("/v1") else f"{base_url}/v1"
    return Anthropic(row, _upstream(row, base_url, means, {"anthropic-version": VERSION} | key))


def _local(row: ProviderRow, means: Means) -> Model:
    def connect(address: str, key: str) -> Upstream:
        return _upstream(row, address, means, _bearer(key))

    return local.LocalModel(row, partial(local.command, row.models[0]), connect, means.observer)


def _simulated(row: ProviderRow, means: Means) -> Model:
    del means
    return SimulatedModel(row.name)


_KINDS: Mapping[Kind, Callable[[ProviderRow, Means], Model]] = {
    "openai_compatible": _openai_compatible,
    "anthropic": _anthropic,
    "local": _local,
    "simulated": _simulated,
}


def _upstream(row: ProviderRow, base_url: str, means: Means, key: Mapping[str, str]) -> Upstream:
    # Twice the starting limit: the adaptive limit in front may grow, and connections being closed still count.
    connections = 2 * row.max_concurrency
    return Upstream(base_url, connections=connections, headers=means.observer.trace_headers, now=means.now, key=key)


def _bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"} if key else {}


@dataclass(frozen=True, slots=True)
class Resolved:
    """What a client's model id means: the row, the id for the provider, the label for metrics and events."""

    row: ProviderRow
    upstream_id: str
    label: str


def resolve(model_id: str, rows: Sequence[ProviderRow]) -> Sequence[Resolved]:
    """Return what `model_id` means: a configured id exactly as written, an alias, or `sim:` with parameters.

    Args:
        model_id: As the client wrote it.
        rows: The configured providers, in their order.

    Returns:
        Every row that serves it, in their order; at least one.

    Raises:
        NotFound: No row has it; which ids there are is not said.
        InvalidRequest: A parameter of the simulated model is unknown or out of its range.
    """
    if found := [Resolved(row, model_id, model_id) for row in rows if model_id in row.models]:
        return found
    if found := [Resolved(row, known, known) for row in rows if (known := row.aliases.get(model_id))]:
        return found
    base, colon, _ = model_id.partition(":")
    for row in rows:
        if colon and row.kind == "simulated" and base in row.models:
            simulated_parameters.parse(model_id)
            return [Resolved(row, model_id, base)]
    raise NotFound("No such model", field="model")


def by_weight(served: Sequence[Resolved], draw: float) -> Resolved:
    """Return one of those that serve the same id; `draw`, of [0, 1), chooses by the weights of their rows."""
    left = draw * sum(one.row.weight for one in served)
    for one in served:
        left -= one.row.weight
        if left < 0:
            return one
    return served[-1]
