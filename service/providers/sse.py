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
            ProviderFailure: An event that is not yet whole is longer than the limit.
        """
        if not (self._begun or self._data) and chunk[:6] == b"data: " and chunk[-2:] == b"\n\n" and b"\r" not in chunk:
            payloads = chunk[6:-2].split(b"\n\ndata: ")
            if chunk.count(b"\n") == 2 * len(payloads):
                return payloads  # the usual shape: whole events of one line each
        if b"\n" not in chunk:
            self._hold(chunk)
            return []
        *lines, rest = b"".join((*self._begun, chunk)).split(b"\n")
        data, payloads = self._data, []
        for line in lines:
            if line[:5] == b"data:":
                data.append(line[6:] if line[5:6] == b" " else line[5:])
            elif data and (not line or line == b"\r"):
                payloads.append(_payload(data))
                data.clear()
        self._begun, self._size = [], sum(map(len, data))
        self._hold(rest)
        return payloads

    def _hold(self, beginning: bytes) -> None:
        """Keep what is the beginning of a line."""
        self._size += len(beginning)
        if self._size > self._limit:
            raise malformed()
        if beginning:
            self._begun.append(beginning)


def _payload(data: list[bytes]) -> bytes:
    payload = data[0] if len(data) == 1 else b"\n".join(data).replace(b"\r\n", b"\n")
    return payload[:-1] if payload[-1:] == b"\r" else payload
