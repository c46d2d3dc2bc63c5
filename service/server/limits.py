"""Every limit of the HTTP server, with its unit and its reason. Read by the listener, the protocol and the drain.

uvicorn has no limit on the time or the size of a request; a reverse proxy usually lends it some. Forebay must stand
without one, so these hold for every connection, whoever is in front.
"""

from __future__ import annotations

from dataclasses import dataclass

KIB = 1024
MIB = 1024 * KIB


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerLimits:
    """The limits of one server. Times are seconds, sizes are bytes."""

    head_bytes: int = 32 * KIB
    """Request line and headers (or trailers) of one request; 431 above it. httptools itself has no bound."""

    head_seconds: float = 7.0
    """From the connection, or the first byte of a request, to the end of its headers; 408 after it. With the sweep
    and the linger below, whoever goes silent is gone within 10 s."""

    body_bytes: int = 4 * MIB
    """One request body; 413 above it. It is kept in memory whole, so this also bounds what a connection can hold."""

    body_idle_seconds: float = 7.0
    """Silence within a body; 408 after it, and gone within 10 s likewise."""

    body_seconds: float = 30.0
    """One whole body, or a sender of one byte a second would hold its connection for weeks; 408 after it."""

    keep_alive_seconds: float = 8.0
    """An idle connection between two requests. Longer than the 5 s after which httpx, and so the OpenAI SDK, drops
    an idle connection by itself: the side that may lose a request should be the first to let go."""

    linger_bytes: int = 32 * MIB
    """What is read and thrown away after a refusal. Closing with unread data makes the kernel send a reset, which
    destroys the refusal before the client, still sending, has read it."""

    linger_seconds: float = 2.0
    """How long that may take."""

    sweep_seconds: float = 0.5
    """How often the connections are looked through; each time limit above may be late by this much. One pass over
    10,000 connections costs about a millisecond, a timer for each read of each connection would cost more."""

    send_buffer_bytes: int = 32 * KIB
    """SO_SNDBUF, which Linux doubles. With the default the kernel takes 4 MB for a client that reads nothing, a whole
    answer: nobody would ever notice that it does not read."""

    write_high_water_bytes: int = 16 * KIB
    """What waits in our own memory before `send()` waits."""

    unacknowledged_seconds: float = 20.0
    """TCP_USER_TIMEOUT: for how long sent data may go unacknowledged before the kernel gives the peer up. Longer than
    the 10 s of `stream.emit`, so that a stalled reader is called one, and is not taken for a vanished peer."""

    probe_after_seconds: int = 10
    """TCP_KEEPIDLE: a peer that vanished without a word while it waits for its first token is asked after this."""

    probe_every_seconds: int = 5
    """TCP_KEEPINTVL."""

    backlog: int = 2048
    """Connections the kernel holds for us between two turns of the event loop (it cuts this at somaxconn)."""

    cleanup_seconds: float = 5.0
    """What requests that were told to end have for ending, before they are cancelled, and again before the exit."""


DEFAULT_LIMITS = ServerLimits()
