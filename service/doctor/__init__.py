"""`forebay doctor`: asks every dependency whether it is there, and says what to do if it is not.

`before_start` is the part of it without which `forebay serve` would fail later, and less clearly. It asks nobody who is
far away, so that the clients for that, Redis's and others, are not loaded at every start.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from service.doctor import here
from service.doctor.here import Environ, Fault
from service.providers import local
from service.routing import key_of

if TYPE_CHECKING:
    from service.settings import Settings
    from service.settings_rows import ProviderSettings

__all__ = ["Fault", "Finding", "before_start", "examine"]

PATIENCE = 5.0  # seconds for each answer

Check = Callable[[], str | Awaitable[str]]


@dataclass(frozen=True, slots=True)
class Finding:
    """What became of one check. `todo` is empty when there is nothing to do."""

    what: str
    says: str
    todo: str = ""

    @property
    def ok(self) -> bool:
        """Whether it is as it should be."""
        return not self.todo


def before_start(settings: Settings, environ: Environ) -> None:
    """Look at what a start needs, and bring the state database up to date; raise Fault. Blocks."""
    here.data_folder(settings)
    here.policies(settings)
    here.tools(settings)
    here.secrets(settings, environ)
    if all(row.kind == "local" and local.available() for row in settings.providers):
        raise Fault(f"no model can run here ({local.available()})", "name a provider under [[providers]]")
    if settings.environment == "production" and not settings.metrics_are_guarded:
        raise Fault("/metrics would be open", "choose another port than ops_port, or set metrics_token_env")
    here.migrated(settings)


async def examine(settings: Settings, environ: Environ) -> list[Finding]:
    """Ask everything at once and return what was found, in a fixed order; takes about 5 s at most."""
    return await asyncio.gather(*(_find(what, check) for what, check in _checks(settings, environ)))


def _checks(settings: Settings, environ: Environ) -> Iterator[tuple[str, Check]]:
    from service.doctor import afar  # noqa: PLC0415 -- see above

    yield "secrets", partial(here.secrets, settings, environ)
    yield "data folder", partial(here.data_folder, settings)
    yield "state database", partial(here.state, settings)
    yield "index", partial(here.index, settings)
    yield "policies", partial(here.policies, settings)
    for row in settings.providers:
        yield f"provider {row.name}", partial(_provider, row, environ)
    if settings.telemetry.otlp_endpoint:
        yield "OTLP collector", partial(afar.collector, settings.telemetry.otlp_endpoint)
    if settings.limits.backend == "redis":
        yield "Redis", partial(afar.redis, settings, environ)
    if settings.jobs.engine == "temporal":
        yield "Temporal", partial(afar.temporal, settings.jobs)
    for server in settings.mcp:
        yield f"MCP server {server.name}", partial(afar.mcp, server)


def _provider(row: ProviderSettings, environ: Environ) -> str | Awaitable[str]:
    if row.kind == "simulated":
        return "simulated"
    if row.kind != "local":
        from service.doctor import afar  # noqa: PLC0415 -- see above

        return afar.provider(row, key_of(row, environ))
    if reason := local.available():
        raise Fault(reason, "use another provider, or Linux on x86_64 or aarch64")
    return str(local.weights())


async def _find(what: str, check: Check) -> Finding:
    try:
        async with asyncio.timeout(PATIENCE):
            answer = await asyncio.to_thread(check)  # blocks; or returns at once with what is to be awaited
            return Finding(what, answer if isinstance(answer, str) else await answer)
    except Fault as fault:
        return Finding(what, fault.says, fault.todo)
    except TimeoutError:
        return Finding(what, f"no answer within {PATIENCE:g} s", "look whether it is overloaded, or behind a firewall")
    except Exception as error:  # noqa: BLE001  (the others are to be heard all the same)
        return Finding(what, f"could not be asked ({type(error).__name__})", "look at what is set for it")
