"""A provider as the settings describe it: one `[[providers]]` table, one row.

The settings make these; the registry builds a model from each; admission and retries read them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

Kind = Literal["openai_compatible", "anthropic", "local", "simulated"]


@dataclass(frozen=True, slots=True)
class Price:
    """What a model costs, in the currency of the tenants' quotas, for a million tokens."""

    prompt: float = 0.0
    generated: float = 0.0


@dataclass(frozen=True, slots=True)
class ProviderRow:
    """One provider. Times in seconds (None: the general budget holds), lengths in tokens.

    `aliases` maps a further name to one of `models`. `weight` is this row's share among rows that serve the same model.
    The key is in no row: it is handed to the registry's `build`, and goes no further than the provider's headers.
    """

    name: str
    kind: Kind
    models: tuple[str, ...]
    base_url: str = ""
    aliases: Mapping[str, str] = field(default_factory=dict)
    weight: float = 1.0
    prices: Price = Price()
    max_concurrency: int = 50
    max_attempts: int = 3
    fallback: str = ""
    approved_fallback: bool = False
    context_tokens: int | None = None
    max_output_tokens: int | None = None
    first_token: float | None = None
    token_gap: float | None = None
    generation: float | None = None
    total: float | None = None

    def output_limit(self, asked: int | None) -> int | None:
        """Return the most tokens an answer may have: the smaller of what is asked and what the row allows."""
        return min((limit for limit in (asked, self.max_output_tokens) if limit), default=None)
