"""One provider's HTTP side: a pool of connections, a POST that is answered by server-sent events, errors as ours.

The dialects (openai_compatible, anthropic) say what is sent and what an event means; here is how it travels. What a
provider writes in an error is read to find its code, then forgotten.

One token passes through here, so the client was chosen by CPU (tests/benchmarks/clients.py: streams of 100 chunks, 16
at once, uvloop, two busy cores). A stream takes 1.1 ms with aiohttp, sse.py and msgspec structs, as it is here; with
aiohttp line by line and a pydantic model, json or untyped msgspec 1.2 to 1.4 times as much, with httpx2 3.1 times, with
httpx 3.8 times, with OpenAI's SDK 15 times. httptools on a bare transport takes 0.7: no pool, no TLS, no proxies.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from contextvars import ContextVar
from typing import Self

import aiohttp
import msgspec

from service.errors import ProviderFailure
from service.ports import Delta, Deltas
from service.providers.connector import Connector
from service.providers.failures import UNREADABLE, from_status, malformed, retry_after, safe
from service.providers.sse import SseDecoder
from service.runtime.proxies import proxy_for

Headers = Callable[[], Mapping[str, str]]

_CONNECT_SECONDS = 5.0  # loss of the first SYN costs 1 s, of two 3 s; beyond that nobody is there
_KEPT_SECONDS = 30.0  # shorter than the 60 s of the usual load balancers
_BACKSTOP_SECONDS = 3_600.0  # the turn's budgets are far shorter: this bounds a caller that has none
_ERROR_SECONDS, _ERROR_BYTES = 2.0, 64 << 10  # what an error's body may take before its code is given up
_TAIL_SECONDS = 0.05  # for the end of the body after the last event: worth a connection kept, not worth a wait
_ASKED = {"Content-Type": "application/json", "Accept": "text/event-stream", "Accept-Encoding": "identity"}
_OK, _REQUEST_IDS = 200, ("x-request-id", "request-id")


class ErrorBody(msgspec.Struct):
    """The part of an error's JSON that is looked at. Providers disagree about the types of both."""

    code: object = None
    type: object = None


class _ErrorEnvelope(msgspec.Struct):
    error: ErrorBody


_decode_error = msgspec.json.Decoder(_ErrorEnvelope).decode


class Refused(Exception):
    """The provider answered with an error status. `body` is for the dialect's eyes: it must not leave the provider."""

    def __init__(self, failure: ProviderFailure, body: bytes) -> None:
        super().__init__()
        self.failure, self.body = failure, body


class _ConnectionWasDead(Exception):
    """A connection that was kept from an earlier request, and nothing came back on it."""


class _Sending:
    """One request on its way: on a connection that was kept, unless a socket is made for it."""

    on_kept = True


_sending: ContextVar[_Sending] = ContextVar("sending")


def _new_socket(address: aiohttp.AddrInfoType) -> socket.socket:
    """Make a socket, and note for whom. aiohttp's tracing would tell too, at a tenth of what a request costs here."""
    _sending.get().on_kept = False
    family, kind, protocol, *_ = address
    return socket.socket(family, kind, protocol)


class Answer:
    """A stream that has begun: read its events to the end, then drain it.

    Leaving its block closes the connection at once, unless the whole answer was read: then it is kept.
    """

    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self._response, self._decoder = response, SseDecoder()
        self.request_id = request_id(response.headers)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._response.close()

    async def events(self) -> list[bytes]:
        """Return the payloads of what has arrived, waiting for at least one; [] at the end of the body.

        Raises:
            ProviderFailure: The connection broke, or this is no event stream.
        """
        payloads: list[bytes] = []
        while not payloads and (chunk := await self._read()):
            payloads = self._decoder.feed(chunk)
        return payloads

    async def drain(self) -> None:
        """Wait shortly for the end of the body, so that the connection can be kept for the next request."""
        if self._response.content.is_eof():
            return
        with suppress(TimeoutError, aiohttp.ClientError, OSError):
            async with asyncio.timeout(_TAIL_SECONDS):
                while await self._response.content.readany():
                    pass

    async def _read(self) -> bytes:
        try:
            return await self._response.content.readany()
        except TimeoutError:
            raise ProviderFailure("timeout", request_id=self.request_id) from None
        except (aiohttp.ClientError, OSError):
            raise malformed(self.request_id) from None


def at_once(read: Callable[[bytes], Iterable[Delta]], payloads: Iterable[bytes]) -> Iterator[Deltas]:
    """Yield what the payloads of one read say, all at once; where one is a failure, what was said before it first."""
    said: list[Delta] = []
    try:
        for payload in payloads:
            said += read(payload)
    finally:
        if said:
            yield said


class Upstream:
    """The connections to one base address. Made in a running event loop; `close` frees them."""

    def __init__(
        self, base_url: str, *, connections: int, headers: Headers, now: Callable[[], float], key: Mapping[str, str]
    ) -> None:
        """Keep what every request needs; connect only when asked.

        Args:
            base_url: Where the dialect's paths begin, as `https://host/v1`.
            connections: The most at once; more wait in line here.
            headers: Called for each request; gives the trace context to send along.
            now: Unix seconds, to understand a Retry-After that is a date.
            key: The headers that authenticate.
        """
        self._base = base_url.rstrip("/")
        self._headers, self._now = headers, now
        self._session = aiohttp.ClientSession(
            connector=Connector(limit=connections, keepalive_timeout=_KEPT_SECONDS, socket_factory=_new_socket),
            headers={**_ASKED, **key},
            timeout=aiohttp.ClientTimeout(total=_BACKSTOP_SECONDS, sock_connect=_CONNECT_SECONDS),
            proxy=proxy_for(base_url),
            cookie_jar=aiohttp.DummyCookieJar(),
        )

    async def close(self) -> None:
        """Close every connection, those in use too."""
        await self._session.close()

    async def post(self, path: str, body: bytes) -> Answer:
        """Send `body`; return the answer as soon as its headers are in. It is to be closed: it is a `with`.

        Raises:
            Refused: The status was not 200.
            ProviderFailure: No connection, or no HTTP.
        """
        response = await self._send(path, body)
        if response.status == _OK:
            return Answer(response)
        try:
            raise await self._refusal(response)
        finally:
            response.close()

    async def _send(self, path: str, body: bytes) -> aiohttp.ClientResponse:
        """Send the request; again on another connection if a kept one turns out to be dead.

        Some servers (llama.cpp) close a connection after a stream without saying so. Nothing was answered yet, and
        asking a model has no side effect. A new connection that dies is a server that fails: the caller's retries,
        which are counted and bounded, are for that.
        """
        with suppress(_ConnectionWasDead):
            return await self._send_once(path, body)
        try:
            return await self._send_once(path, body)
        except _ConnectionWasDead:
            raise ProviderFailure("connect", retry_safe=True) from None

    async def _send_once(self, path: str, body: bytes) -> aiohttp.ClientResponse:
        sending = _Sending()
        _sending.set(sending)
        try:
            return await self._session.post(
                self._base + path, data=body, headers=self._headers(), allow_redirects=False
            )
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError):
            raise ProviderFailure("connect", retry_safe=True) from None
        except TimeoutError:
            raise ProviderFailure("timeout", retry_safe=True) from None
        except aiohttp.ClientResponseError:
            raise malformed() from None
        except (aiohttp.ClientError, OSError):
            if sending.on_kept:
                raise _ConnectionWasDead from None
            raise ProviderFailure("connect", retry_safe=True) from None

    async def _refusal(self, response: aiohttp.ClientResponse) -> Refused:
        body = b""
        with suppress(TimeoutError, aiohttp.ClientError, OSError):
            async with asyncio.timeout(_ERROR_SECONDS):
                while len(body) < _ERROR_BYTES and (chunk := await response.content.readany()):
                    body += chunk
        failure = from_status(
            response.status,
            code=_code(body),
            request_id=request_id(response.headers),
            retry_after=retry_after(response.headers.get("Retry-After"), self._now()),
        )
        return Refused(failure, body)


def request_id(headers: Mapping[str, str]) -> str:
    """Return the provider's id of a request, "" if it gave none."""
    return next((safe(headers[name]) for name in _REQUEST_IDS if name in headers), "")


def _code(body: bytes) -> object:
    try:
        error = _decode_error(body).error
    except UNREADABLE:
        return None
    return error.code or error.type
