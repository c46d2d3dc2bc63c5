"""The sections of `forebay.toml`: one frozen model each, with the unit and the reason under every field.

Made by service/settings.py only. Times are whole milliseconds in here (the suffix `_ms` says so) and seconds as float
everywhere else. The rows that repeat ([[providers]], [[mcp]], [tools.<name>]) are in settings_rows.py.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

HOUR_MS = 3_600_000
SECONDS_PER = {"second": 1.0, "minute": 60.0, "hour": 3600.0, "day": 86_400.0}

Milliseconds = Annotated[int, Field(ge=1, le=HOUR_MS)]
Count = Annotated[int, Field(ge=1, le=1_000_000)]
Port = Annotated[int, Field(ge=0, le=65_535)]
VariableName = Annotated[str, Field(pattern=r"^([A-Za-z_][A-Za-z0-9_]*)?$", max_length=128)]


class Group(BaseModel):
    """What all sections share: unknown keys are refused, values never change, errors do not repeat what was given."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)


@dataclass(frozen=True, slots=True)
class Rate:
    """So many in a period: `count` per `period` seconds."""

    count: int
    period: float


def parse_rate(value: Any) -> Any:
    """Return the Rate that a text such as "60/minute" means; raise ValueError for anything else but a Rate."""
    if isinstance(value, Rate):
        return value
    found = re.fullmatch(r"([1-9][0-9]{0,8})/(second|minute|hour|day)", value) if isinstance(value, str) else None
    if not found:
        raise ValueError('a rate is written like "60/minute"; periods are second, minute, hour and day')
    return Rate(int(found[1]), SECONDS_PER[found[2]])


class ServerSettings(Group):
    """[server]: the listening socket and what it lets in."""

    host: str = "127.0.0.1"
    """Address to listen on. Loopback, so that nothing is exposed before somebody says so."""
    port: Port = 8080
    """0 takes any free port."""
    ops_port: int | None = Field(default=None, ge=1, le=65_535)
    """Port for /healthz, /readyz and /metrics alone; none, or the same: they are served on `port`."""
    max_body_bytes: int = Field(default=4 * 1024 * 1024, ge=1024, le=1024**3)
    """Bytes; a larger body is refused with 413 before it is read."""
    metrics_token_env: VariableName = ""
    """Name of the variable that holds the bearer token for /metrics."""
    metrics_token_file: str = ""
    """Path of a file that holds it instead."""
    drain_seconds: float = Field(default=10.0, ge=0, le=3600)
    """Seconds that open streams get to end by themselves after SIGTERM."""
    allowed_hosts: tuple[str, ...] = ()
    """Host headers that are accepted; none listed: any."""
    cors_origins: tuple[str, ...] = ()
    """Origins that a browser may call from; none listed: its own only."""
    playground: bool | None = None
    """Serve the playground at /; unset: in development only."""
    docs: bool | None = None
    """Serve /docs and /openapi.json; unset: in development only."""

    @property
    def own_ops_port(self) -> int | None:
        """The port for operations, if it is one of its own."""
        return None if self.ops_port == self.port else self.ops_port


class BudgetSettings(Group):
    """[budgets]: what each phase of a turn may take, in milliseconds. A phase gets this or what is left, if less."""

    total_ms: Milliseconds = 25_000
    """The whole turn, from the headers to the commit."""
    input_validation_ms: Milliseconds = 50
    policy_ms: Milliseconds = 150
    context_ms: Milliseconds = 300
    """Reading the session's history, once the policy has allowed it."""
    admission_ms: Milliseconds = 2000
    """Each wait for a place of a model, of retrieval or of a tool."""
    retrieval_ms: Milliseconds = 1500
    rerank_ms: Milliseconds = 300
    first_token_ms: Milliseconds = 3000
    """From asking the first provider to the first token, all attempts and the fallback together."""
    token_gap_ms: Milliseconds = 5000
    """The longest silence between two tokens."""
    generation_ms: Milliseconds = 20_000
    """The whole answer of the model."""
    tool_ms: Milliseconds = 5000
    """One call of a tool that has no `timeout_ms` of its own."""
    approval_ms: Milliseconds = 120_000
    """Waiting for a human's decision; the total's clock stands still meanwhile."""
    emit_ms: Milliseconds = 10_000
    """One write that the reader does not take, before the reader is dropped; a clock of its own."""
    finalization_ms: Milliseconds = 500
    """Validation and commit together; the commit of a turn that did not complete gets as much again."""


class LimitSettings(Group):
    """[limits]: how much is let in at once and over time."""

    requests: Count = 200
    """Turns running at once, over all processes."""
    tenant_requests: Count = 200
    """Of these, one tenant's."""
    user_streams: Count | None = None
    """Of these, one user's; none: no limit but the tenant's."""
    tenant_rate: Annotated[Rate, BeforeValidator(parse_rate)] | None = None
    """Requests of one tenant over time, such as "60/minute"."""
    tenant_tokens_per_day: int | None = Field(default=None, ge=1)
    """Prompt and generated tokens of one tenant."""
    tenant_cost_per_day: float | None = Field(default=None, gt=0)
    """In the currency of the providers' `prices`."""
    queue: int = Field(default=400, ge=0, le=1_000_000)
    """Turns waiting for a place, all tenants together; beyond it, 503."""
    tenant_queue: int = Field(default_factory=lambda given: given.get("queue", 400) // 2, ge=0, le=1_000_000)
    """Of these, one tenant's; unset: half of `queue`, so that nobody fills it alone."""
    queue_wait_ms: Milliseconds = 2000
    """The longest wait of a turn for its own place."""
    stream_queue: int = Field(default=64, ge=1, le=10_000)
    """Events between the model and the socket of one stream; then the producer stands still."""
    backend: Literal["memory", "redis"] = "memory"
    """Where places and rates are counted: in each process for itself, or shared."""
    redis_url_env: VariableName = ""
    """Name of the variable that holds the URL of Redis."""
    redis_url_file: str = ""
    """Path of a file that holds it instead."""


class ChatSettings(Group):
    """[chat]: what a turn does unless its request says otherwise."""

    grounding: Literal["preferred", "required"] = "preferred"
    """Whether an answer without evidence is a warning or an error."""
    documents: int = Field(default=5, ge=1, le=100)
    """Passages that are retrieved."""
    tool_rounds: int = Field(default=4, ge=0, le=32)
    """How often the model may ask for tools within one turn."""


class SuggestionSettings(Group):
    """[suggestions]: an HTTP service of the operator's own that is asked beside the search; none: no suggestions."""

    url: str = Field(default="", pattern=r"^$|^https?://\S+$")
    """Where questions are posted, with the tenant and the labels that the caller may see."""
    api_key_env: VariableName = ""
    """Name of the variable that holds its bearer token."""
    api_key_file: str = ""
    """Path of a file that holds it instead."""
    timeout_ms: Milliseconds = 200
    """The longest that an answer waits for it: it does without, with a warning."""
    count: int = Field(default=3, ge=1, le=20)
    """Suggestions told."""


class OpenAISettings(Group):
    """[openai]: the routes under /v1."""

    retrieval: bool = False
    """Whether these turns retrieve: off, since clients of this API expect their prompt to be sent as it is."""


class StateSettings(Group):
    """[state]: the state database."""

    url: str = Field(default="", pattern=r"^$|^sqlite:///.+|^postgresql://.+", repr=False)
    """Where it is; unset: SQLite in the data folder. Not shown anywhere: it may hold a password."""


class PolicySettings(Group):
    """[policy]: authorisation."""

    path: str = ""
    """Folder of Cedar policies; unset: the ones that ship."""


class JobSettings(Group):
    """[jobs]: long work."""

    engine: Literal["embedded", "temporal"] = "embedded"
    temporal_address: str = Field(default="", pattern=r"^$|^[^\s:/]+:\d{1,5}$|^\[[0-9a-fA-F:]+\]:\d{1,5}$")
    """host:port of the Temporal server."""
    temporal_namespace: str = Field(default="default", pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    """Its namespace: one for each state database, since whoever takes a job must find it there."""
    concurrency: Count = 4
    """Jobs running at once in one process."""
    queue: Count = 1000
    """Jobs waiting, all tenants together; beyond it, 503."""
    tenant_queue: Count = 500
    """Of these, one tenant's."""


class EvaluationSettings(Group):
    """[evaluation]: finished answers scored in the background."""

    sample_ratio: float = Field(default=0.0, ge=0, le=1)
    """Share of the completed turns that are evaluated, from 0 to 1. Off: each is a job in the state database."""


class TelemetrySettings(Group):
    """[telemetry]: traces and logs."""

    otlp_endpoint: str = Field(default="", pattern=r"^$|^https?://\S+$")
    """Base address of an OTLP/HTTP collector, /v1/traces is appended; unset: spans are made but not sent."""
    trace_url: str = Field(default="", pattern=r"^$|^https?://\S*\{trace_id\}\S*$")
    """Where a person looks at a trace, with `{trace_id}` in it: the playground links to it; unset: it shows the id."""
    sample_ratio: float = Field(default=1.0, ge=0, le=1)
    """Share of the traces that are sent, from 0 to 1."""
    capture_content: bool = False
    """Whether redacted texts, cut to 1,024 characters, may stand in spans: off, they are personal data."""
    log_format: Literal["auto", "json", "console"] = "auto"
    """`auto`: for people on a terminal, JSON lines otherwise."""
