"""What is reached over the network: providers, the collector, Redis, servers of tools. All of it raises Fault.

What the other side says is never shown, only its status; of an address host and port, since a URL may hold a password.
"""

from __future__ import annotations

import asyncio
import importlib
import shutil
from collections.abc import Mapping
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import aiohttp
from redis.asyncio import Redis
from redis.exceptions import RedisError

from service.doctor.here import Environ, Fault
from service.jobs.temporal.engine import CLIENT
from service.jobs.temporal.target import Target, Unusable
from service.providers.anthropic import VERSION
from service.settings import read_secret

if TYPE_CHECKING:
    from service.settings import Settings
    from service.settings_groups import JobSettings
    from service.settings_rows import McpSettings, ProviderSettings

REFUSED_KEY = (401, 403)
REDIRECT = 300
BROKEN = 500


async def provider(row: ProviderSettings, key: str) -> str:
    """Ask for the models: it costs nothing, and needs the key."""
    base = row.base_url.rstrip("/")
    if row.kind == "anthropic":
        base = base.removesuffix("/v1") + "/v1"
        headers = {"anthropic-version": VERSION} | ({"x-api-key": key} if key else {})
    else:
        headers = {"Authorization": f"Bearer {key}"} if key else {}
    status = await _status("GET", f"{base}/models", headers, "look at base_url, and whether it runs")
    if status in REFUSED_KEY:
        raise Fault(f"{_place(base)} refuses the key ({status})", "look at api_key_env or api_key_file")
    if status >= BROKEN:
        raise Fault(f"{_place(base)} answers {status}", "look at its own log or status page")
    return f"{_place(base)} answers"


async def collector(endpoint: str) -> str:
    """Send it no spans at all, which is a valid request."""
    headers = {"Content-Type": "application/x-protobuf"}
    todo = "look at otlp_endpoint: a base address, of OTLP over HTTP (port 4318 as a rule)"
    status = await _status("POST", f"{endpoint.rstrip('/')}/v1/traces", headers, todo)
    if status >= REDIRECT:
        raise Fault(f"{_place(endpoint)} answers {status}", todo)
    return f"{_place(endpoint)} takes spans"


async def _status(method: str, url: str, headers: Mapping[str, str], todo: str) -> int:
    try:
        async with aiohttp.ClientSession() as session, session.request(method, url, headers=headers) as answer:
            return answer.status
    except (aiohttp.ClientError, OSError, ValueError) as error:
        raise Fault(f"{_place(url)} cannot be reached ({type(error).__name__})", todo) from None


async def redis(settings: Settings, environ: Environ) -> str:
    """Say hello to Redis."""
    url = read_secret(settings.limits.redis_url_env, settings.limits.redis_url_file, environ)
    try:
        async with Redis.from_url(url.get_secret_value() if url else "") as redis:
            await redis.ping()
    except (RedisError, OSError, ValueError) as error:
        raise Fault(f"does not answer ({type(error).__name__})", "look whether it runs, and at redis_url_env") from None
    return "answers"


async def temporal(given: JobSettings) -> str:
    """Reach the namespace, and look whether jobs can be found in it."""
    target = Target(given.temporal_address, given.temporal_namespace)
    client = await asyncio.to_thread(importlib.import_module, CLIENT)
    try:
        lacking = await client.examine(target)
    except Unusable as failure:
        todo = "look at temporal_address and temporal_namespace, and whether it runs"
        raise Fault(f"{target.address}: {failure}", todo) from None
    later = f"; {', '.join(lacking)} will be made at the first start" if lacking else ""
    return f"{target.address}, namespace {target.namespace}{later}"


async def mcp(server: McpSettings) -> str:
    """Reach a server of tools, or see that its program is there."""
    if server.url:
        return await reach(server.url, "look at its url, and whether it runs")
    if shutil.which(server.command[0]) is None:
        raise Fault(f"{server.command[0]} is not installed", "install it, or correct the command")
    return server.command[0]


async def reach(url: str, todo: str) -> str:
    """Open a connection and close it again."""
    address = urlsplit(url)
    try:
        port = address.port or (443 if address.scheme == "https" else 80)
        _, writer = await asyncio.open_connection(address.hostname, port)
    except (OSError, ValueError) as error:
        raise Fault(f"{_place(url)} cannot be reached ({type(error).__name__})", todo) from None
    writer.close()
    await writer.wait_closed()
    return f"{_place(url)} answers"


def _place(url: str) -> str:
    """Return host and port of a URL."""
    address = urlsplit(url)
    return f"{address.hostname}:{address.port}" if address.port else str(address.hostname)
