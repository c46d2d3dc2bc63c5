"""`ports.Retriever` over HTTP: what else a reader may want to look at, from a service of the operator's own.

The second source of the retrieval step, there only if the settings name it. It is asked beside the first one, within a
limit of its own, and no answer waits for it any longer or fails with it (chat/degradation.py).

    POST {url}   {"question": "…", "tenant": "acme", "labels": ["public"], "limit": 3}
    200          {"suggestions": [{"id": "C-7", "title": "Case C-7", "labels": ["public"], "score": 0.7}]}
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import aiohttp
import msgspec

from service.errors import RetrievalFailed
from service.ports import Document, Scope
from service.runtime.proxies import proxy_for
from telemetry.catalogue import Attr

if TYPE_CHECKING:
    from collections.abc import Sequence

    from telemetry.observe import Observer

_OK = 200
_MOST_BYTES = 64 << 10
_CLOSE_SECONDS = 2.0

# On the way there, and of the decoder: one that nests too deep for it is no answer either.
_FAILURES = (TimeoutError, OSError, aiohttp.ClientError, msgspec.MsgspecError, ValueError, RecursionError)


class _Suggestion(msgspec.Struct):
    id: str
    title: str
    labels: frozenset[str]
    score: float = 0.0


class _Answer(msgspec.Struct):
    suggestions: list[_Suggestion]


_encode = msgspec.json.encode
_decode = msgspec.json.Decoder(_Answer).decode


class SuggestionService:
    """Suggestions from `url`.

    Args:
        url: where questions are posted.
        key: sent as a bearer token; "" for none.
        patience: seconds that one answer may take, the connecting included.
    """

    def __init__(self, url: str, key: str, patience: float, observer: Observer) -> None:
        self._url, self._patience, self._observer = url, patience, observer
        self._fixed = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {key}"} if key else {})
        self._session: aiohttp.ClientSession | None = None

    async def open(self) -> None:
        """Make the pool of connections; none is opened yet."""
        self._session = aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar(), proxy=proxy_for(self._url))

    async def close(self) -> None:
        """Close every connection."""
        if self._session is not None:
            async with asyncio.timeout(_CLOSE_SECONDS):
                await self._session.close()

    async def query(self, question: str, scope: Scope, limit: int) -> Sequence[Document]:
        """Return at most `limit` documents of the scope, without their texts, in the service's order.

        Raises:
            RetrievalFailed: it was too slow, away, or its answer was not one.
        """
        asked = {"question": question, "tenant": scope.tenant, "labels": sorted(scope.labels), "limit": limit}
        with self._observer.span("suggestions", kind="client") as span:
            try:
                async with asyncio.timeout(self._patience):
                    found = _decode(await self._post(_encode(asked))).suggestions
            except _FAILURES as error:
                span.fail(type(error).__name__)
                raise RetrievalFailed("The suggestions are not available") from None
            within = [one for one in found if one.labels <= scope.labels][:limit]
            span.set(Attr.HITS, len(within))
            return [Document(one.id, one.title, "", scope.tenant, one.labels, one.score) for one in within]

    async def _post(self, body: bytes) -> bytes:
        assert self._session is not None  # noqa: S101 -- opened before it is used
        headers = {**self._fixed, **self._observer.trace_headers()}
        async with self._session.post(self._url, data=body, headers=headers, allow_redirects=False) as answer:
            if answer.status != _OK:
                raise RetrievalFailed("The suggestions are not available")
            read = await answer.content.read(_MOST_BYTES + 1)
            while len(read) <= _MOST_BYTES and (more := await answer.content.read(_MOST_BYTES + 1 - len(read))):
                read += more
            if len(read) > _MOST_BYTES:
                raise RetrievalFailed("The suggestions are too large")
            return read
