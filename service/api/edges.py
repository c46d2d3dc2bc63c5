"""Who is let in before any route is looked for, and whose trace is carried on. Put together by the composition root."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from service.api.handlers import answer
from service.errors import ForebayError, InvalidRequest, NotFound

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from starlette.types import ASGIApp, Receive, Scope, Send

    from service.auth import Keys
    from telemetry.server import Trusts

KEY_PATIENCE = 0.25  # seconds to find out whose key it is; the request waits for it
OPS_PATHS = frozenset({"/healthz", "/readyz", "/metrics"})


class Doorman:
    """Refuses what came in by the wrong door.

    With a port for operations, their routes are there and nothing else is; a probe or a scraper asks by address, so
    these routes do not look at the Host. Elsewhere a foreign Host is a page that had our address put under its name.

    Args:
        app: what is behind the door.
        on_refused: is told method and path of what a foreign Host asked for, to count it like any refusal.
        hosts: names that are ours, `*.` in front for all below one; none: any.
        ops_port: the port for operations alone; None: there is no such port.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        on_refused: Callable[[str, str], None],
        hosts: Sequence[str],
        ops_port: int | None,
    ) -> None:
        self._app, self._on_refused = app, on_refused
        self._ops_port = ops_port
        self._names = frozenset(host.lower() for host in hosts if not host.startswith("*"))
        self._below = tuple(host[1:].lower() for host in hosts if host.startswith("*."))
        self._any = not hosts or "*" in hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or refuse it."""
        objection = self._objection(scope) if scope["type"] == "http" else None
        if objection is None:
            await self._app(scope, receive, send)
        else:
            await answer(scope, objection)(scope, receive, send)

    def _objection(self, scope: Scope) -> ForebayError | None:
        is_ops = scope["path"] in OPS_PATHS
        if self._ops_port is not None and is_ops != (scope["server"][1] == self._ops_port):
            return NotFound("No such route")
        if is_ops or self._any or self._is_ours(_host(scope)):
            return None
        self._on_refused(scope["method"], scope["path"])
        return InvalidRequest("Host: this name is not served here", status=400)

    def _is_ours(self, host: str) -> bool:
        return host in self._names or host.endswith(self._below)


def trusts_services(keys: Keys) -> Trusts:
    """Return who may be the parent of our trace where strangers come in: callers whose key has the role `service`."""

    async def trusts(scope: Scope) -> bool:
        given, peer = _header(scope, b"authorization"), scope.get("client")
        if not given:
            return False
        try:
            async with asyncio.timeout(KEY_PATIENCE):
                who = await keys.authenticate(given, peer[0] if peer else "", charge=False)  # the route will
        except (ForebayError, TimeoutError):
            return False
        return "service" in who.roles

    return trusts


def _header(scope: Scope, wanted: bytes) -> str:
    return next((value for name, value in scope["headers"] if name == wanted), b"").decode("latin-1")


def _host(scope: Scope) -> str:
    """Return the name in the Host header, without its port, in lower case."""
    given = _header(scope, b"host").lower()
    name, colon, port = given.rpartition(":")
    return name if colon and port.isdigit() else given
