"""`serve`: listen, run the application in one process or in several, and stop without cutting anybody off.

Called by `forebay serve`. The application is plain ASGI; what it supplies besides stands in `Application`.
"""

from __future__ import annotations

import gc
import math
import os
import socket
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, cast

import uvicorn

from service.server.drain import Drain, DrainingServer
from service.server.limits import DEFAULT_LIMITS, ServerLimits
from service.server.protocol import HardenedProtocol
from service.server.refusals import OnCut, OnRefused, cut_not_counted, not_counted
from service.server.supervisor import Supervisor, end_with_parent

if TYPE_CHECKING:
    import asyncio
    from multiprocessing.connection import Connection

    from uvicorn._types import ASGI3Application


@dataclass(frozen=True, slots=True, kw_only=True)
class Application:
    """What the server needs of an application."""

    asgi: ASGI3Application
    drain: Drain
    on_refused: OnRefused = not_counted
    on_cut: OnCut = cut_not_counted


@dataclass(frozen=True, slots=True, kw_only=True)
class Serving:
    """What every process of one service shares; sent to a worker when it is started."""

    make_app: Callable[[], Application]
    drain_seconds: float
    limits: ServerLimits
    trusted_proxies: Sequence[str]

    @property
    def grace_seconds(self) -> float:
        """From a worker's signal to its SIGKILL: the drain, the waits that follow it, and the lifespan's end."""
        return self.drain_seconds + 6 * self.limits.cleanup_seconds


def serve(
    make_app: Callable[[], Application],
    *,
    host: str,
    port: int,
    ops_port: int | None = None,
    workers: int = 1,
    drain_seconds: float = 10.0,
    limits: ServerLimits = DEFAULT_LIMITS,
    trusted_proxies: Sequence[str] = (),
    on_started: Callable[[int], None] = lambda _port: None,
) -> int:
    """Serve until a signal comes.

    Args:
        make_app: builds the application, in the process that runs it. With workers it must be picklable: a function
            of a module, or a `functools.partial` of one.
        host: address or name to listen on.
        port: 0 takes a free one.
        ops_port: a second port for the same application, which finds it in `scope["server"]`.
        workers: processes; with more than one this process only watches over them.
        drain_seconds: what open streams have after the first signal.
        limits: of the HTTP server.
        trusted_proxies: addresses whose `X-Forwarded-*` headers are believed; nobody's by default.
        on_started: called once with the port when requests are answered.

    Returns:
        The exit code: 0 after a clean end.

    Raises:
        OSError: the address is taken or is none.
        SystemExit: the application does not start (uvicorn's code, 3).
    """
    serving = Serving(
        make_app=make_app, drain_seconds=drain_seconds, limits=limits, trusted_proxies=tuple(trusted_proxies)
    )
    listeners = listen(host, [port] if ops_port is None else [port, ops_port], workers, limits)
    announce = partial(on_started, listeners[0][0].getsockname()[1])
    if workers == 1:
        _run_server(serving, listeners[0], announce)
        return 0
    supervisor = Supervisor(
        target=_run_worker,
        arguments=[(serving, sockets) for sockets in listeners],
        grace_seconds=serving.grace_seconds,
        on_started=announce,
    )
    return supervisor.run()


def make_server(serving: Serving, on_started: Callable[[], None]) -> DrainingServer:
    """The server of one process, not yet running: `server.run(sockets)` blocks until it has ended."""
    application = serving.make_app()
    limits = serving.limits
    protocol = partial(HardenedProtocol, limits=limits, on_refused=application.on_refused, on_cut=application.on_cut)
    config = uvicorn.Config(
        application.asgi,
        http=cast("type[asyncio.Protocol]", protocol),
        ws="none",
        interface="asgi3",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=bool(serving.trusted_proxies),
        forwarded_allow_ips=list(serving.trusted_proxies),
        backlog=limits.backlog,
        timeout_graceful_shutdown=math.ceil(limits.cleanup_seconds),
        # Or a pipelined request, which is started from within the one before it, would inherit that one's span.
        reset_contextvars=True,
    )
    return DrainingServer(
        config, limits=limits, drain=application.drain, drain_seconds=serving.drain_seconds, on_started=on_started
    )


def listen(host: str, ports: Sequence[int], workers: int, limits: ServerLimits) -> list[list[socket.socket]]:
    """Sockets for each worker, bound and listening.

    With several workers each has a socket of its own on the same port and the kernel spreads the connections evenly
    (SO_REUSEPORT); from one shared socket the worker that wakes first would take most streams, and each has only its
    part of the limits. The parent keeps them open, so a restarted worker finds what came in the meantime.

    Raises:
        OSError: the address is taken or is none.
    """
    if workers == 1:
        return [[_listener(host, port, limits) for port in ports]]
    taken = []
    for port in ports:
        # Without SO_REUSEPORT first: with it a second service would silently share the port.
        with _bound(host, port) as probe:
            taken.append(probe.getsockname()[1])
    return [[_listener(host, port, limits, shared=True) for port in taken] for _ in range(workers)]


def _bound(host: str, port: int, *, shared: bool = False) -> socket.socket:
    family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    listener = socket.socket(family, kind, protocol)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if shared:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        listener.bind(address)
    except OSError:
        listener.close()
        raise
    return listener


def _listener(host: str, port: int, limits: ServerLimits, *, shared: bool = False) -> socket.socket:
    """Options are set here once: Linux hands them on to every connection that is accepted."""
    listener = _bound(host, port, shared=shared)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, limits.send_buffer_bytes)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    if sys.platform == "linux":
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, round(limits.unacknowledged_seconds * 1000))
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, limits.probe_after_seconds)
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, limits.probe_every_seconds)
    listener.listen(limits.backlog)
    return listener


def _run_worker(ready: Connection, serving: Serving, sockets: list[socket.socket]) -> None:
    """The life of one worker process."""
    os.setpgrp()  # Ctrl-C reaches the parent alone, which passes it on once
    end_with_parent(serving.grace_seconds)
    _run_server(serving, sockets, partial(ready.send_bytes, b"up"))


def _run_server(serving: Serving, sockets: list[socket.socket], announce: Callable[[], None]) -> None:
    def started() -> None:
        gc.freeze()  # what the application opened lives for ever too
        announce()

    server = make_server(serving, started)
    _settle_memory()
    server.run(sockets)


def _settle_memory() -> None:
    """Keep the garbage collector off the streams.

    With 10,000 slow streams the default thresholds saturate a core and make p99 lateness 1 s; with these it is 40 ms
    at 0.7 of a core. What was loaded by now lives for ever and is not looked through again; to look through it once
    takes 0.3 s, so it is done before the event loop runs.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(100_000, 50, 1000)
