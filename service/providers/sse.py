"""Decodes server-sent events: bytes as they arrive, payloads as they become whole. On the path of every token.

Works on bytes to the end: UTF-8 that is split across two reads never needs decoding here, and the JSON decoder takes
bytes. Only `data` matters to our providers; `event`, `id`, `retry` and comments are skipped.
Source: https://html.spec.whatwg.org/multipage/server-sent-events.html, section 'parsing an event stream'.
"""

from __future__ import annotations

from service.providers.failures import malformed

MAX_EVENT_BYTES = 1 << 20  # a whole tool call in one chunk is far smaller; an endless line must not fill the memory


class SseDecoder:
    """One stream's decoder; feed it every read, in order."""

    __slots__ = ("_data", "_limit", "_rest", "_size")

    def __init__(self, limit: int = MAX_EVENT_BYTES) -> None:
        self._limit = limit
        self._rest = bytearray()
        self._data: list[bytes] = []
        self._size = 0

    def feed(self, chunk: bytes) -> list[bytes]:
        """Return the payloads that `chunk` completes, each without its `data:`.

        Raises:
            ProviderFailure: An event is longer than the limit.
        """
        self._rest += chunk
        if len(self._rest) > self._limit and b"\n" not in chunk and b"\r" not in chunk:
            raise malformed()
        if b"\n" not in chunk and b"\r" not in self._rest:
            return []
        return [payload for line in self._lines() if (payload := self._take(line)) is not None]

    def _lines(self) -> list[bytes]:
        """Take the whole lines out of the buffer, whichever of the three line ends they have."""
        text = bytes(self._rest)
        if b"\r" in text:
            held = b"\r" if text.endswith(b"\r") else b""  # the other half of a CRLF may be in the next read
            text = text.removesuffix(held).replace(b"\r\n", b"\n").replace(b"\r", b"\n") + held
        *lines, rest = text.split(b"\n")
        self._rest = bytearray(rest)
        return lines

    def _take(self, line: bytes) -> bytes | None:
        """Take one line; return the event's payload if the line, a blank one, ends it."""
        if not line:
            payload = b"\n".join(self._data) if self._data else None
            self._data, self._size = [], 0
            return payload
        if line.startswith(b"data:"):
            value = line[6:] if line.startswith(b"data: ") else line[5:]
            self._size += len(value)
            if self._size > self._limit:
                raise malformed()
            self._data.append(value)
        return None
