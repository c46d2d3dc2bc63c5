"""Decodes server-sent events: bytes as they arrive, payloads as they become whole. On the path of every token.

Works on bytes to the end: UTF-8 that is split across two reads never needs decoding here, and the JSON decoder takes
bytes. Only `data` matters to our providers; `event`, `id`, `retry` and comments are skipped. Lines end in LF or CRLF;
the lone CR that the standard allows too is used by nobody, and would be in the way of reading a line at a time.
Source: https://html.spec.whatwg.org/multipage/server-sent-events.html, section 'parsing an event stream'.
"""

from __future__ import annotations

from service.providers.failures import malformed

MAX_EVENT_BYTES = 1 << 20  # a whole tool call in one chunk is far smaller; an endless line must not fill the memory


class SseDecoder:
    """One stream's decoder; feed it every read, in order."""

    __slots__ = ("_begun", "_data", "_limit", "_size")

    def __init__(self, limit: int = MAX_EVENT_BYTES) -> None:
        self._limit = limit
        self._begun: list[bytes] = []  # reads that make up the beginning of a line; joined once, at its end
        self._data: list[bytes] = []  # the event's lines of data so far
        self._size = 0  # bytes of both

    def feed(self, chunk: bytes) -> list[bytes]:
        """Return the payloads that `chunk` completes, each without its `data:`.

        Raises:
            ProviderFailure: An event is longer than the limit.
        """
        if b"\n" not in chunk:
            self._hold(self._begun, chunk)
            return []
        start = b"".join(self._begun)
        self._begun, self._size = [], self._size - len(start)
        *lines, rest = (start + chunk).split(b"\n")
        payloads = []
        for line in lines:
            if line.startswith(b"data:"):
                self._hold(self._data, line[6:] if line.startswith(b"data: ") else line[5:])
            elif (not line or line == b"\r") and self._data:
                payloads.append(b"\n".join(self._data).replace(b"\r\n", b"\n").removesuffix(b"\r"))
                self._data, self._size = [], 0
        if rest:
            self._hold(self._begun, rest)
        return payloads

    def _hold(self, where: list[bytes], part: bytes) -> None:
        self._size += len(part)
        if self._size > self._limit:
            raise malformed()
        where.append(part)
