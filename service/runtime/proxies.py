"""The environment's proxy on the way to a service elsewhere. Called once for each, by who keeps connections to it.

Not by aiohttp's `trust_env`: that looks for every request anew, in a thread, and reads the user's netrc as well. A
password there for the host, or for any, would then be told to it, and beside a key of ours every request would fail.
"""

from __future__ import annotations

from ipaddress import ip_address
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass


def proxy_for(url: str) -> str | None:
    """Return the address of the proxy that HTTP_PROXY, HTTPS_PROXY and NO_PROXY name for `url`, None for none."""
    there = urlsplit(url)
    host = there.hostname or ""
    if _is_loopback(host) or proxy_bypass(host):
        return None  # a proxy is never asked for this machine itself
    return getproxies().get(there.scheme)


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
