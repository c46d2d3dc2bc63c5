"""Everything that can be set, read once at start: `forebay.toml`, or a variable `FOREBAY_<SECTION>__<KEY>` over it.

Called by the command line, which hands the frozen result around. A start with settings that are wrong is refused, with
the file, line and key of everything that is. The sections are in settings_groups.py, the rows in settings_rows.py.
"""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, SecretStr, ValidationError
from pydantic.fields import FieldInfo
from pydantic_settings import (
    BaseSettings,
    EnvSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

from service.settings_errors import PREFIX, Issue, SettingsError, from_validation, refusal
from service.settings_groups import (
    BudgetSettings,
    ChatSettings,
    EvaluationSettings,
    JobSettings,
    LimitSettings,
    OpenAISettings,
    PolicySettings,
    ServerSettings,
    StateSettings,
    SuggestionSettings,
    TelemetrySettings,
)
from service.settings_rows import LOCAL, SIMULATED, McpSettings, ProviderSettings, ToolSettings
from service.settings_rules import issues

DEFAULT_FILE = Path("forebay.toml")
SQLITE = "sqlite:///"


class Settings(BaseSettings):
    """All of them, frozen. Made by `load`; tests make their own from keyword arguments, without file or environment."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX,
        env_nested_delimiter="__",
        env_ignore_empty=True,
        extra="forbid",
        frozen=True,
        hide_input_in_errors=True,
    )

    environment: Literal["development", "production"] = "development"
    """In production a start without what guards the service is refused, and what is for trying it out is off."""
    default_model: str = ""
    """Unset: the first model of the first provider."""
    data_dir: Path = Path("data")
    """Folder of the SQLite database, the index and the demo key."""
    server: ServerSettings = ServerSettings()
    budgets: BudgetSettings = BudgetSettings()
    limits: LimitSettings = LimitSettings()
    chat: ChatSettings = ChatSettings()
    suggestions: SuggestionSettings = SuggestionSettings()
    openai: OpenAISettings = OpenAISettings()
    state: StateSettings = StateSettings()
    policy: PolicySettings = PolicySettings()
    jobs: JobSettings = JobSettings()
    evaluation: EvaluationSettings = EvaluationSettings()
    telemetry: TelemetrySettings = TelemetrySettings()
    tools: dict[str, ToolSettings] = Field(default_factory=dict)
    mcp: tuple[McpSettings, ...] = ()
    providers: tuple[ProviderSettings, ...] = Field(
        default_factory=lambda given: (LOCAL, SIMULATED) if given.get("environment") != "production" else (LOCAL,)
    )

    @classmethod
    def settings_customise_sources(cls, *_: Any, **sources: Any) -> tuple[PydanticBaseSettingsSource, ...]:
        """Take keyword arguments alone: pydantic's hook, widened by `load`."""
        return (sources["init_settings"],)

    @property
    def model(self) -> str:
        """The model of a turn that names none."""
        return self.default_model or self.providers[0].models[0]

    @property
    def database_url(self) -> str:
        """Where the state is, never empty."""
        return self.state.url or f"{SQLITE}{self.data_dir / 'forebay.db'}"

    @property
    def data_folder(self) -> Path:
        """Where the index and the demo key are: beside the SQLite database, wherever that is."""
        return Path(self.database_url.removeprefix(SQLITE)).parent if self.uses_sqlite else self.data_dir

    @property
    def uses_sqlite(self) -> bool:
        """Whether the state is in SQLite rather than PostgreSQL."""
        return self.database_url.startswith(SQLITE)

    @property
    def has_demo_key(self) -> bool:
        """Whether a key for trying out is made: only where a stranger cannot come by it."""
        return self.environment == "development" and self.uses_sqlite

    @property
    def serves_playground(self) -> bool:
        """Whether / is the playground."""
        return self._in_development_unless(self.server.playground)

    @property
    def serves_docs(self) -> bool:
        """Whether /docs and /openapi.json are there."""
        return self._in_development_unless(self.server.docs)

    @property
    def metrics_are_guarded(self) -> bool:
        """Whether /metrics has a token or a port of its own."""
        server = self.server
        return server.own_ops_port is not None or bool(server.metrics_token_env or server.metrics_token_file)

    def _in_development_unless(self, said: bool | None) -> bool:  # noqa: FBT001 -- the setting itself
        return self.environment == "development" if said is None else said


class _Environment(EnvSettingsSource):
    """Variables from the mapping that `load` was given, instead of the process's."""

    def __init__(self, settings_cls: type[BaseSettings], environ: Mapping[str, str]) -> None:
        self._environ = environ
        super().__init__(settings_cls)

    def _load_env_vars(self) -> Mapping[str, str | None]:
        return {name.lower(): value for name, value in self._environ.items() if value}

    def decode_complex_value(self, field_name: str, field: FieldInfo, value: Any) -> Any:
        try:
            return super().decode_complex_value(field_name, field, value)
        except ValueError:
            return value  # not JSON: the validation refuses it, and names the variable


def load(config_path: Path | None, data_dir: Path | None, environ: Mapping[str, str]) -> Settings:
    """Read the settings.

    Args:
        config_path: the TOML file; None means `forebay.toml` if it is there, and the defaults if not.
        data_dir: the folder given on the command line, if any.
        environ: the environment; wins over the file.

    Raises:
        SettingsError: if anything is wrong; the text tells all of it, each with its file and line or its variable.
    """
    if config_path is not None and not config_path.is_file():
        raise SettingsError(f"{config_path}: no such file")
    path = config_path or (DEFAULT_FILE if DEFAULT_FILE.is_file() else None)
    try:
        settings = _read(path, {"data_dir": data_dir} if data_dir else {}, environ)
        found = [*_unknown_sections(environ), *_two_places(settings), *issues(settings, environ)]
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(f"{path}: not TOML in UTF-8: {error}") from None
    except ValidationError as error:
        raise refusal([*from_validation(error, Settings), *_unknown_sections(environ)], path, environ) from None
    if found:
        raise refusal(found, path, environ)
    # Of a class that can be pickled: worker processes are sent the settings.
    return Settings.model_construct(settings.model_fields_set, **dict(settings))


def _read(path: Path | None, given: dict[str, Any], environ: Mapping[str, str]) -> Settings:
    class FromEverywhere(Settings):
        @classmethod
        def settings_customise_sources(cls, *_: Any, **sources: Any) -> tuple[PydanticBaseSettingsSource, ...]:
            return (sources["init_settings"], _Environment(cls, environ), TomlConfigSettingsSource(cls, path))

    return FromEverywhere(**given)


def _unknown_sections(environ: Mapping[str, str]) -> list[Issue]:
    """Return the variables that look like settings and belong to no section: they would be passed over in silence."""
    found = []
    for name in environ:
        section, nested, key = name.upper().removeprefix(PREFIX).lower().partition("__")
        if name.upper().startswith(PREFIX) and nested and section not in Settings.model_fields:
            close = difflib.get_close_matches(section, Settings.model_fields, n=1)
            found.append(Issue((section, key), f"unknown section{f'; did you mean {close[0]}?' if close else ''}"))
    return found


def _two_places(settings: Settings) -> list[Issue]:
    both = settings.state.url and "data_dir" in settings.model_fields_set
    return [Issue(("state", "url"), "set either this or the data folder (--data-dir), not both")] if both else []


def read_secret(variable: str, path: str, environ: Mapping[str, str]) -> SecretStr | None:
    """Return the secret that a pair of settings `…_env` and `…_file` points to; None if neither leads to one.

    Raises:
        SettingsError: if the file cannot be read.
    """
    if path:
        try:
            return SecretStr(Path(path).read_text(encoding="utf-8").strip())
        except OSError as error:
            raise SettingsError(f"{path}: {error.strerror}") from None
    value = environ.get(variable, "") if variable else ""
    return SecretStr(value) if value else None
