"""The command line: `forebay serve`, `worker`, `key create`, `key revoke`, `migrate`, `doctor`.

What a person can put right is told in one clear line, never as a traceback. A command loads what it needs when it is
run: `forebay --help` takes a twelfth of what `forebay serve` loads (0.1 of 1.5 s), `forebay key create` a half.
"""

# ruff: noqa: PLC0415 -- see above

from __future__ import annotations

import asyncio
import os
import signal
import sys
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import click

from service.errors import ForebayError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

    from service.calls import CallState
    from service.settings import Settings
    from service.store import StateStore

T = TypeVar("T")
SETTLED = '{"done": true, "found_out_by": "a person"}'  # what a model is told of a call that somebody has settled
WORKS = "Forebay works on jobs"
ROLES = ("analyst", "approver", "developer", "service")


@click.group()
@click.version_option(package_name="forebay")
def main() -> None:
    """Forebay: the observability-first runtime for AI applications."""


def _settings(config: Path | None, data_dir: Path | None) -> Settings:
    from service import settings as configuration
    from service.settings_errors import SettingsError

    try:
        return configuration.load(config, data_dir, os.environ)
    except SettingsError as error:
        raise click.ClickException(str(error)) from None
    except OSError as error:
        raise click.ClickException(f"{error.filename or config}: {error.strerror}") from None


_config = click.option("--config", type=click.Path(path_type=Path, dir_okay=False), help="TOML file with the settings.")
_data_dir = click.option("--data-dir", type=click.Path(path_type=Path, file_okay=False), help="Folder of the state.")


@main.command()
@_config
@_data_dir
@click.option("--host", help="Address to listen on.")
@click.option("--port", type=click.IntRange(0, 65_535), help="Port to listen on; 0 takes a free one.")
@click.option("--workers", type=click.IntRange(1, 64), default=1, show_default=True, help="Processes.")
def serve(config: Path | None, data_dir: Path | None, host: str | None, port: int | None, workers: int) -> None:
    """Serve until SIGTERM or SIGINT; open streams are told before anything is closed."""
    settings = _settings(config, data_dir)
    said = {name: value for name, value in (("host", host), ("port", port)) if value is not None}
    given = settings.server.model_copy(update=said)
    settings = settings.model_copy(update={"server": given})
    key = _prepared(settings, workers)
    from service.greeting import greet

    ports = f"port {given.port}" + (f" and {given.own_ops_port}" if given.own_ops_port else "")
    with _listening(f"{given.host}, {ports}", "--port"):
        sys.exit(_serve(settings, key, workers, given.port, given.own_ops_port, partial(greet, settings, key)))


@main.command()
@_config
@_data_dir
@click.option("--ops-port", type=click.IntRange(1, 65_535), help="Port for /metrics, /healthz and /readyz; none: none.")
def worker(config: Path | None, data_dir: Path | None, ops_port: int | None) -> None:
    """Work on jobs and serve nobody, until SIGTERM or SIGINT; what is not done by then goes on elsewhere."""
    from service.doctor import Fault, before_start

    settings = _settings(config, data_dir)
    if ops_port is not None:
        server = settings.server.model_copy(update={"port": 0, "ops_port": ops_port})
        settings = settings.model_copy(update={"server": server})
    try:
        before_start(settings, os.environ)
        if ops_port is None:
            asyncio.run(_work(settings))
            return
    except (Fault, ForebayError) as error:
        raise click.ClickException(str(error)) from None
    with _listening(f"{settings.server.host}, port {ops_port}", "--ops-port"):
        sys.exit(_serve(settings, None, 1, ops_port, None, lambda _port: click.echo(WORKS, err=True)))


async def _work(settings: Settings) -> None:
    from service.app import Service

    service = Service(settings, dict(os.environ), None, processes=1)
    ended = asyncio.Event()
    for sign in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(sign, ended.set)
    try:
        await service.open()
        click.echo(WORKS, err=True)
        await ended.wait()
        await service.drain(settings.server.drain_seconds)
    finally:
        await service.close()


def _serve(
    settings: Settings, key: str | None, workers: int, port: int, ops_port: int | None, told: Callable[[int], None]
) -> int:
    """Serve until a signal comes; return the exit code. What an `ops_port` of the settings serves, it alone serves."""
    from service.app import application
    from service.server.limits import ServerLimits
    from service.server.run import serve as run_server

    return run_server(
        partial(application, settings, dict(os.environ), key, workers),
        host=settings.server.host,
        port=port,
        ops_port=ops_port,
        workers=workers,
        drain_seconds=settings.server.drain_seconds,
        limits=ServerLimits(body_bytes=settings.server.max_body_bytes),
        on_started=told,
    )


@contextmanager
def _listening(where: str, option: str) -> Iterator[None]:
    """Tell a person what to do about an address that is taken or none."""
    try:
        yield
    except OSError as error:
        what = f"Cannot listen on {where}: {error.strerror}"
        raise click.ClickException(f"{what}. Another one can be given with {option}.") from None


def _prepared(settings: Settings, workers: int) -> str | None:
    """Refuse a start that would fail; return the demo key if there is one."""
    from service.auth import demo_key
    from service.doctor import Fault, before_start
    from telemetry.workers import prepare as share_metrics

    try:
        before_start(settings, os.environ)
        if workers > 1:
            share_metrics(settings.data_folder / "metrics")  # before any of them is started
        return demo_key(settings.data_folder, os.environ) if settings.has_demo_key else None
    except Fault as fault:
        raise click.ClickException(str(fault)) from None
    except OSError as error:
        raise click.ClickException(f"{error.filename}: {error.strerror}") from None


@main.group()
def key() -> None:
    """Make and revoke API keys; both work at once beside a running server."""


@key.command("create")
@_config
@_data_dir
@click.option("--tenant", required=True, help="Made if it is new.")
@click.option("--user", required=True)
@click.option("--role", "roles", multiple=True, type=click.Choice(ROLES), help="May be given several times.")
@click.option("--days", type=click.IntRange(1, 3650), help="Until it expires; unset: it does not.")
def key_create(
    config: Path | None, data_dir: Path | None, tenant: str, user: str, roles: tuple[str, ...], days: int | None
) -> None:
    """Print a new key, alone on the last line. It is shown once and stored nowhere."""
    from service.runtime.world import real_world
    from service.settings_groups import SECONDS_PER

    world = real_world()
    expires_at = None if days is None else world.now() + days * SECONDS_PER["day"]
    given = roles or ("analyst",)
    click.echo(f"A key for {user} of {tenant}, with {', '.join(given)}:", err=True)
    click.echo(_with_store(config, data_dir, lambda store: store.create_key(tenant, user, given, expires_at)))


@key.command("revoke")
@_config
@_data_dir
@click.argument("key_id")
def key_revoke(config: Path | None, data_dir: Path | None, key_id: str) -> None:
    """Revoke the key whose id is KEY_ID: the part between fb_ and the next underscore."""
    if not _with_store(config, data_dir, lambda store: store.revoke_key(key_id)):
        raise click.ClickException(f"There is no key {key_id!r} that is not revoked.")
    click.echo("Revoked: within 5 seconds no process takes it any more.")


@main.group()
def call() -> None:
    """Settle calls of tools of which nobody knows whether they happened."""


@call.command("settle")
@_config
@_data_dir
@click.argument("call_id")
@click.option("--happened/--did-not-happen", required=True, help="What you have found out.")
def call_settle(config: Path | None, data_dir: Path | None, call_id: str, *, happened: bool) -> None:
    """Say what became of CALL_ID, which is indeterminate. If it did not happen, it may be tried again."""
    state: CallState = "completed" if happened else "failed"
    result = SETTLED if happened else None

    def settle(store: StateStore) -> Awaitable[bool]:
        return store.advance_call(
            call_id, ["indeterminate"], state, result=result, code="" if happened else "tool_failed"
        )

    if not _with_store(config, data_dir, settle):
        raise click.ClickException(f"There is no call {call_id!r} that is indeterminate.")
    click.echo(f"It is {state} now.")


def _with_store(config: Path | None, data_dir: Path | None, work: Callable[[StateStore], Awaitable[T]]) -> T:
    """Do `work` with the state database of the settings, migrated and open."""
    from service.runtime.world import real_world
    from service.store import migrate, open_store
    from telemetry.catalogue import LabelSets
    from telemetry.setup import Options, Telemetry

    settings = _settings(config, data_dir)

    async def main() -> T:
        telemetry = Telemetry(Options(LabelSets(), {"service.name": "forebay"}), stream=sys.stderr)
        try:
            store = await open_store(settings.database_url, real_world(), telemetry.observer)
            try:
                return await work(store)
            finally:
                await store.close()
        finally:
            await asyncio.to_thread(telemetry.close)

    try:
        migrate(settings.database_url)
        return asyncio.run(main())
    except ForebayError as error:
        raise click.ClickException(error.detail) from None


async def _nothing_more(_store: StateStore) -> None:
    """It is up to date, and can be opened."""


@main.command()
@_config
@_data_dir
def migrate(config: Path | None, data_dir: Path | None) -> None:
    """Bring the state database up to date."""
    _with_store(config, data_dir, _nothing_more)
    click.echo("The state database is up to date.")


@main.command()
@_config
@_data_dir
def doctor(config: Path | None, data_dir: Path | None) -> None:
    """Check the settings, ask every dependency whether it is there, and say what to do if it is not."""
    from service.doctor import examine

    settings = _settings(config, data_dir)
    click.echo(f"ok      settings: {settings.environment}")
    findings = asyncio.run(examine(settings, os.environ))
    for finding in findings:
        click.echo(f"{'ok    ' if finding.ok else 'failed'}  {finding.what}: {finding.says}")
        if not finding.ok:
            click.echo(f"        → {finding.todo}")
    sys.exit(0 if all(finding.ok for finding in findings) else 1)
