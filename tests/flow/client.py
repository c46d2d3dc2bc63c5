"""A client of a streaming route, in ASGI's terms, with uvicorn's manners: it reads as it is told to, and may leave."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass, field

TERMINAL = ("message_completed", "error")


@dataclass
class Client:
    """Sends `body`, takes each write after `pause` seconds, and keeps what it got."""

    body: dict | bytes
    key: str = "Bearer ann"
    headers: dict[str, str] = field(default_factory=dict)
    pause: float = 0.0  # seconds for each write
    stops_reading_after: int | None = None  # writes
    body_delay: float = 0.0
    status: int | None = None
    answer_headers: dict[str, str] = field(default_factory=dict)
    raw: bytes = b""
    ended: bool = False  # the response is complete
    left: bool = False
    aborted: bool = False
    writes: int = 0
    written_at_once: int = 0  # those of them that nobody had to be woken for

    def __post_init__(self):
        self._closed = asyncio.Event()  # as uvicorn sees it: the peer left, or the response is complete
        self._sent_body = False

    def leave(self):
        """Close the connection."""
        self.left = self.left or not self.ended
        self._closed.set()

    def leave_in(self, seconds):
        """Close the connection after a while."""
        asyncio.get_running_loop().call_later(seconds, self.leave)

    @property
    def scope(self):
        headers = {"authorization": self.key, **self.headers}
        return {
            "type": "http",
            "headers": [(k.encode(), v.encode("latin-1")) for k, v in headers.items()],
            "client": ("10.0.0.1", 1),
            "extensions": {"forebay.abort": self._abort, "forebay.write": self._write_now},
        }

    def _abort(self):
        self.aborted = True
        self.leave()

    def _write_now(self, data):
        """Take a piece at once; not so from a reader who is slow, nor once it has left."""
        if self.left or self.pause or self.stops_reading_after is not None:
            return False
        assert self.status is not None, "a piece came before the head"
        assert not self.ended, "something was sent after the end"
        self.writes += 1
        self.written_at_once += 1
        self.raw += data
        return True

    async def receive(self):
        """Give the body, then wait for the end of the connection."""
        if not self._sent_body:
            if self.body_delay and await self._closed_within(self.body_delay):
                return {"type": "http.disconnect"}
            self._sent_body = True
            body = self.body if isinstance(self.body, bytes) else json.dumps(self.body).encode()
            return {"type": "http.request", "body": body, "more_body": False}
        await self._closed.wait()
        return {"type": "http.disconnect"}

    async def _closed_within(self, seconds):
        try:
            async with asyncio.timeout(seconds):
                return await self._closed.wait()
        except TimeoutError:
            return False

    async def send(self, message):
        """Take a piece of the response; one that has left takes everything in silence, as uvicorn does."""
        assert not self.ended, "something was sent after the end"
        if message["type"] == "http.response.start":
            if not self.left:
                self.status = message["status"]
                self.answer_headers = {k.decode(): v.decode() for k, v in message["headers"]}
            return
        if self.stops_reading_after is not None and self.writes >= self.stops_reading_after:
            await self._closed.wait()
        elif self.pause:
            await self._closed_within(self.pause)
        if self.left:
            return
        self.writes += 1
        self.raw += message["body"]
        if not message["more_body"]:
            self.ended = True
            self._closed.set()

    @property
    def blocks(self):
        """What was streamed as events: (id, type, data), in order; comments are left out."""
        found = []
        for block in self.raw.decode().split("\n\n"):
            lines = dict(line.split(": ", 1) for line in block.split("\n") if line[:1] not in ("", ":"))
            if lines:
                assert list(lines) == ["id", "event", "data"]
                found.append((int(lines["id"]), lines["event"], json.loads(lines["data"])))
        return found

    @property
    def events(self):
        """What was streamed: (type, data), in order."""
        return [(kind, data) for _, kind, data in self.blocks]

    @property
    def types(self):
        """The events' types, a run of deltas as one."""
        kinds = [kind for kind, _ in self.events]
        return [kind for i, kind in enumerate(kinds) if i == 0 or kind != "token_delta" or kinds[i - 1] != kind]

    @property
    def text(self):
        """The answer, as far as it came."""
        return "".join(data["text"] for kind, data in self.events if kind == "token_delta")

    @property
    def problem(self):
        """The refusal."""
        assert self.answer_headers["content-type"] == "application/problem+json"
        return json.loads(self.raw)

    def event(self, kind):
        """The one event of this type."""
        (found,) = [data for this, data in self.events if this == kind]
        return found

    def warnings(self):
        """The codes of the warnings, in order."""
        return [data["code"] for kind, data in self.events if kind == "warning"]

    def assert_sound(self):
        """What holds of every response, however it ended (contract, sections 2 and 5)."""
        if self.status != 200:
            return
        blocks = self.blocks
        assert [number for number, _, _ in blocks] == list(range(1, len(blocks) + 1)), "ids count up from 1"
        terminal = [i for i, (_, kind, _) in enumerate(blocks) if kind in TERMINAL]
        assert terminal in ([], [len(blocks) - 1]), "nothing follows the terminal event"
        assert self.ended == bool(terminal), "a stream ends with its terminal event, and not without"
        assert self.ended or self.left, "a client that stays is told how it ended"
