"""The command line: `forebay serve`, `key create`, `key revoke`, `migrate`, `doctor`."""

from __future__ import annotations

import os
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from service import settings as configuration
from service.app import application
from service.auth import demo_key
from service.providers import local
from service.server.limits import ServerLimits
from service.server.run import serve as run_server
from service.settings_errors import SettingsError
from service.store import migrate as migrate_state

if TYPE_CHECKING:
    from service.settings import Settings


@click.group()
@click.version_option(package_name="forebay")
def main() -> None:
    """Forebay: the observability-first runtime for AI applications."""


def _settings(config: Path | None, data_dir: Path | None) -> Settings:
    try:
        return configuration.load(config, data_dir, os.environ)
    except SettingsError as error:
        raise click.ClickException(str(error)) from None


_config = click.option("--config", type=click.Path(path_type=Path, dir_okay=False), help="TOML file with the settings.")
_data_dir = click.option("--data-dir", type=click.Path(path_type=Path, file_okay=False), help="Folder of the state.")


@main.command()
@_config
@_data_dir
@click.option("--host", help="Address to listen on.")
@click.option("--port", type=int, help="Port to listen on; 0 takes a free one.")
@click.option("--workers", type=click.IntRange(1, 64), default=1, show_default=True, help="Processes.")
def serve(config: Path | None, data_dir: Path | None, host: str | None, port: int | None, workers: int) -> None:
    """Serve until SIGTERM or SIGINT; open streams are told before anything is closed."""
    settings = _settings(config, data_dir)
    given = settings.server
    key = demo_key(settings.data_folder, os.environ) if settings.has_demo_key else None
    address = host or given.host
    code = run_server(
        partial(application, settings, dict(os.environ), key),
        host=address,
        port=given.port if port is None else port,
        ops_port=given.ops_port,
        workers=workers,
        drain_seconds=given.drain_seconds,
        limits=ServerLimits(body_bytes=given.max_body_bytes),
        on_started=partial(_greet, settings, address, key),
    )
    sys.exit(code)


def _greet(settings: Settings, host: str, key: str | None, port: int) -> None:
    """Tell a person at a terminal how to go on. The key is for the terminal only: it goes to no log."""
    base = f"http://{host}:{port}"
    lines = [f"Forebay serves on {base}"]
    if any(row.kind == "local" for row in settings.providers) and (reason := local.available()):
        lines.append(f"The local model is not available here ({reason}): the simulated one answers.")
    if key is not None:
        body = """{"session_id": "hello", "message": "What is case C-1042 about?"}"""
        lines += [
            "",
            f"  export FOREBAY_KEY={key}",
            f'  curl -N {base}/chat/stream -H "Authorization: Bearer $FOREBAY_KEY" \\',
            f"    -H 'Content-Type: application/json' -d '{body}'",
        ]
    if settings.serves_playground:
        lines += ["", f"Playground: {base}/"]
    click.echo("\n".join([*lines, ""]), err=True)


@main.command()
@_config
@_data_dir
def migrate(config: Path | None, data_dir: Path | None) -> None:
    """Bring the state database up to date."""
    settings = _settings(config, data_dir)
    migrate_state(settings.database_url)
    click.echo("The state database is up to date.")
