"""How Redis is spoken to: never for long, and without its client's habits. For leases.py and shared_counts.py."""

from __future__ import annotations

import asyncio

from redis.asyncio import Redis
from redis.exceptions import RedisError

PATIENCE = 0.25  # seconds for one answer of Redis, which takes 0.2 ms when it is well
FAILURES = (RedisError, OSError, TimeoutError)


def connect(url: str) -> Redis:
    """Return a client that gives up at once: by itself redis-py waits and tries for seconds when the server is gone.

    Nor does it tell the server its own version, which it would read from the disk, in the event loop, each time.
    """
    return Redis.from_url(url, socket_timeout=PATIENCE, socket_connect_timeout=PATIENCE, retry=None, driver_info=None)


def raise_lost_cancellation() -> None:
    """Raise the cancellation that came while redis-py was writing; call it after its answer, in a task of your own.

    It writes within `asyncio.wait_for`, which before Python 3.12 drops a cancellation that comes as the write ends.
    """
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError
