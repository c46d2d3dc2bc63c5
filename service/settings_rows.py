"""The rows of `forebay.toml` that repeat: [[providers]], [[mcp]] and [tools.<name>]."""

from __future__ import annotations

import shlex
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, field_validator

from service.settings_groups import Count, Group, Milliseconds, VariableName

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]
ToolName = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,64}$")]  # what every provider takes as one
Approval = Literal["required", "not_required"]


def _as_approval(value: Any) -> Any:
    """`approval = true` is as clear as the word."""
    return {True: "required", False: "not_required"}[value] if isinstance(value, bool) else value


class Prices(Group):
    """What a provider charges for a million tokens, in any one currency."""

    prompt: float = Field(default=0.0, ge=0)
    generated: float = Field(default=0.0, ge=0)


class ProviderSettings(Group):
    """[[providers]]: one model provider. Budgets that are unset are those of [budgets]."""

    name: Name
    """The provider's label in metrics and traces."""
    kind: Literal["openai_compatible", "anthropic", "local", "simulated"]
    base_url: str = Field(default="", pattern=r"^$|^https?://\S+$")
    """Base address, for an OpenAI-compatible one up to and with /v1."""
    api_key_env: VariableName = ""
    """Name of the variable that holds the key."""
    api_key_file: str = ""
    """Path of a file that holds it instead."""
    models: tuple[str, ...] = Field(min_length=1)
    """Model ids, as the provider knows them: any printable characters."""
    aliases: dict[str, str] = Field(default_factory=dict)
    """Other names that clients may use → one of `models`."""
    weight: float = Field(default=1.0, gt=0, le=1000)
    """Share of the calls when several rows serve one model."""
    prices: Prices = Prices()
    max_concurrency: Count = 50
    """Calls at once: the adaptive limit starts here; its floor is max(4, a quarter)."""
    max_attempts: int = Field(default=3, ge=1, le=10)
    """Attempts before the first token, the first one included."""
    fallback: str = ""
    """Name of the row to ask when this one fails before its first token."""
    approved_fallback: bool = False
    """Whether this row may be another one's fallback: data goes there without the client's asking."""
    context_tokens: Count | None = None
    """Tokens of a prompt, estimated; history and passages are cut to fit."""
    max_output_tokens: Count | None = None
    """Tokens of an answer."""
    first_token_ms: Milliseconds | None = None
    token_gap_ms: Milliseconds | None = None
    generation_ms: Milliseconds | None = None
    total_ms: Milliseconds | None = None

    @field_validator("models")
    @classmethod
    def _printable(cls, models: tuple[str, ...]) -> tuple[str, ...]:
        if not all(model.strip() and model.isprintable() for model in models):
            raise ValueError("a model's id has at least one character, and printable ones only")
        return models


class McpSettings(Group):
    """[[mcp]]: a server of tools, spoken to over its standard streams (`command`) or over HTTP (`url`)."""

    name: Name
    command: Annotated[
        tuple[str, ...], BeforeValidator(lambda value: shlex.split(value) if isinstance(value, str) else value)
    ] = ()
    """Program and arguments, as a list or as one line."""
    url: str = Field(default="", pattern=r"^$|^https?://\S+$")
    api_key_env: VariableName = ""
    """Name of the variable that holds the bearer token for `url`."""
    api_key_file: str = ""
    """Path of a file that holds it instead."""
    environment: tuple[VariableName, ...] = ()
    """Names of the variables that the program of `command` gets, beside PATH, HOME and their like: its own secrets."""
    tools: tuple[ToolName, ...] = ()
    """The tools of that server that may be called at all."""
    shows: tuple[str, ...] = ()
    """Their arguments that events and approvers may see; all others are hidden."""
    read_only: bool = False
    """Whether its tools have no side effects; otherwise each call needs approval."""


class ToolSettings(Group):
    """[tools.<name>]: limits of one tool; what is unset is as the tool ships."""

    concurrency: Count | None = None
    """Calls at once."""
    timeout_ms: Milliseconds | None = None
    approval: Annotated[Approval, BeforeValidator(_as_approval)] | None = None
    """Whether a human decides before it runs."""


LOCAL = ProviderSettings(
    name="local",
    kind="local",
    models=("smollm2",),
    max_concurrency=1,  # one core, one sequence
    first_token_ms=10_000,  # one core reads about 110 prompt tokens a second
    context_tokens=400,
    max_output_tokens=200,
)
SIMULATED = ProviderSettings(name="simulated", kind="simulated", models=("sim",), max_concurrency=1000)
