"""One connection: uvicorn's httptools protocol, with limits in size and time, and disconnects that are always seen.

Made by `service.server.run` for each connection. The package's docstring says what is relied on of uvicorn.

A request is handed to the application once its body has arrived, as a buffering proxy does. So whatever is wrong with
a body (too large, too slow, cut) is answered here, is counted once, and never meets a half-started application.
"""

from __future__ import annotations

import math
import socket
import struct
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from service.errors import Cause
from service.server.reading import PipelineFull, Reading, Refused
from service.server.refusals import OnCut, OnRefused, path_of, refusal

if TYPE_CHECKING:
    import asyncio

    from uvicorn._types import ASGI3Application

    from service.server.limits import ServerLimits

_RESET_ON_CLOSE = struct.pack("ii", 1, 0)


class HardenedProtocol(HttpToolsProtocol):
    """HTTP/1.1 on one connection.

    The scope's `extensions` hold `forebay.abort`, which frees the socket at once and throws away what is unsent,
    `forebay.headers_at`, the loop's time when the headers were in, and `forebay.write`, which is `write_now`.
    """

    def __init__(self, *args: Any, limits: ServerLimits, on_refused: OnRefused, on_cut: OnCut, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._limits = limits
        self._on_refused, self._on_cut = on_refused, on_cut
        self._cut_by = Cause.CLIENT_DISCONNECT
        self._reading = Reading.NOTHING
        self._unparsed = 0  # bytes since the parser last gave a piece of body or ended a request
        self._body_bytes = 0
        self._body_deadline = math.inf
        self._upgrading = False  # a request with an Upgrade, the connection's last: its body passes by the parser
        self._body_left = 0  # of that request
        self._incomplete = False  # the next request for the application lacks the rest of its body
        self._running: RequestResponseCycle | None = None  # the request that the application is answering
        self._refused: HTTPStatus | None = None  # from here on nothing is parsed
        self._deadline = math.inf
        self._unsent = math.inf

    # The connection

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn has it
        """A client has connected; the socket's options come from the listener."""
        super().connection_made(transport)
        transport.set_write_buffer_limits(high=self._limits.write_high_water_bytes)
        self._watch(self._limits.head_seconds)

    def data_received(self, data: bytes) -> None:
        """Parse what arrived, or throw it away once the connection's last answer is decided."""
        self._unparsed += len(data)
        if self._refused is not None:
            if self._unparsed > self._limits.linger_bytes:
                self.abort()
            return
        if self._upgrading:
            self._take_unparsed(data)
            return
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            self._upgrading = True
            self.cycle.keep_alive = False
            self._take_unparsed(data[upgrade.args[0] :])
        except httptools.HttpParserError as error:
            self._parsing_failed(error.__context__)
        else:
            if self._reading is not Reading.NOTHING and self._unparsed > self._limits.head_bytes:
                self._refuse(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE)

    def eof_received(self) -> None:
        """The client will send no more. From a close this cannot be told apart, so it ends a running request.

        Waiting for the write buffer to empty, as closing does, would hide it behind a reader that is stalled.
        """
        if self._running is not None:
            self.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell the running request, which uvicorn would not if another was pipelined behind it; report the others."""
        self._tell_running()
        if self._reading is Reading.BODY and self._refused is None:
            self._on_cut(*self._request(), self._cut_by)
        for cycle, _ in self.pipeline:
            if not cycle.more_body:  # it was whole, and will not be started
                self._on_cut(cycle.scope["method"], cycle.scope["path"], self._cut_by)
        super().connection_lost(exc)
        self._forget()

    def _forget(self) -> None:
        """Let go of the requests, whose scopes lead back here: nothing is left for the garbage collector.

        It came for 3,000 closed connections at once, and held up every stream for 150 ms (measured).
        """
        self.scope = self.cycle = None  # type: ignore[assignment]  # as uvicorn begins
        self.pipeline.clear()

    def abort(self) -> None:
        """Free the socket now, unsent data included: a plain close waits for a reader that may never read."""
        if self not in self.connections:
            return  # it is lost already
        connection = self.transport.get_extra_info("socket")
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
        self.transport.abort()
        self._tell_running()

    def _tell_running(self) -> None:
        if self._running is not None:
            self._running.disconnected = True
            self._running.message_event.set()
            self._running = None

    def shutdown(self) -> None:
        """The server is going: close after the running answer, or now."""
        self._cut_by = Cause.SHUTDOWN
        if self._running is None:
            self.transport.close()
        else:
            self._running.keep_alive = False

    # Callbacks of the parser

    def on_message_begin(self) -> None:
        """The first byte of a request."""
        if self.pipeline:
            raise PipelineFull
        super().on_message_begin()
        self._reading = Reading.HEAD
        if self._running is None:
            self._watch(self._limits.head_seconds)

    def on_header(self, name: bytes, value: bytes) -> None:
        """Keep a header; a trailer is dropped, or it would pass for one that was there from the start."""
        if self._reading is Reading.HEAD:
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """Decide what can be decided without the body."""
        if len(self.url) + sum(len(name) + len(value) + 4 for name, value in self.headers) > self._limits.head_bytes:
            raise Refused(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE)
        declared = next((int(value) for name, value in self.headers if name == b"content-length"), 0)
        if declared > self._limits.body_bytes:
            raise Refused(HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
        if self.parser.should_upgrade():
            self._body_left = declared
        now = self.loop.time()
        ours: Any = {"forebay.abort": self.abort, "forebay.headers_at": now, "forebay.write": self.write_now}
        self.scope["extensions"] = ours  # uvicorn types extensions as dicts
        self._reading = Reading.BODY
        self._body_bytes = 0
        self._body_deadline = now + self._limits.body_seconds
        self._deadline = now + self._limits.body_idle_seconds
        super().on_headers_complete()
        self.flow.resume_reading()  # paused for a pipelined request, which would hide the disconnect of the first

    def on_body(self, body: bytes) -> None:
        """Keep a piece of the body."""
        self._body_bytes += len(body)
        if self._body_bytes > self._limits.body_bytes:
            raise Refused(HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
        self.cycle.body += body
        self._unparsed = 0
        self._deadline = min(self.loop.time() + self._limits.body_idle_seconds, self._body_deadline)

    def on_message_complete(self) -> None:
        """The request is whole: the application may have it."""
        if self._body_left:
            return  # the parser is through with it, its body is not here
        self._reading = Reading.NOTHING
        self._unparsed = 0
        super().on_message_complete()
        if self._incomplete:
            self._incomplete = False
            self._start_asgi_task(self.cycle, self.app)

    def _take_unparsed(self, data: bytes) -> None:
        """Take what follows a request with an Upgrade, where httptools stops parsing, for the request's body.

        We answer in HTTP/1.1, as if not asked. Java's HttpClient asks for h2c in every request, those with a body too.
        """
        body = data[: self._body_left]
        if body:
            self._body_left -= len(body)
            self.on_body(body)
            if not self._body_left:
                self.on_message_complete()

    # The application's side

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: ASGI3Application) -> None:
        if not cycle.more_body:
            self._running = cycle
            super()._start_asgi_task(cycle, app)
            return
        self._incomplete = True
        if cycle.waiting_for_100_continue:
            cycle.waiting_for_100_continue = False
            self.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def write_now(self, data: bytes) -> bool:
        """Write a piece of the running answer, not its last; False, and nothing is written, where that would wait.

        What uvicorn's `send` does with such a piece, without a coroutine and the layers that hand it on.
        """
        running = self._running
        if running is None or not running.chunked_encoding or self.flow.write_paused:
            return False
        if data:  # an empty chunk would be the end
            self.transport.write(b"%x\r\n%b\r\n" % (len(data), data))
        return True

    def on_response_complete(self) -> None:
        """Go on with what was pipelined, or wait for the next request. Replaces uvicorn's, which makes a timer."""
        self.server_state.total_requests += 1
        self._running = None
        self._unsent = math.inf
        self._watch(self._limits.keep_alive_seconds)
        if self.transport.is_closing():
            return
        if self.pipeline:
            self._start_asgi_task(*self.pipeline.pop())
        elif self._refused is not None:
            self._answer_refusal(self._refused)

    # Limits

    def sweep(self, now: float) -> None:
        """Enforce the time limits; called by the server every `sweep_seconds`.

        Args:
            now: the loop's time.
        """
        closing = self.transport.is_closing()
        if now < self._deadline or (self._running is not None and not closing):
            return
        unsent = self.transport.get_write_buffer_size()
        if 0 < unsent < self._unsent:  # an answer that is still being taken, slowly
            self._unsent = unsent
            self._watch(self._limits.keep_alive_seconds)
        elif unsent or closing or self._refused is not None:
            self.abort()
        elif self._reading is Reading.NOTHING:
            self.transport.close()
        else:
            self._refuse(HTTPStatus.REQUEST_TIMEOUT)

    def _watch(self, seconds: float) -> None:
        self._deadline = self.loop.time() + seconds

    def _parsing_failed(self, cause: BaseException | None) -> None:
        if isinstance(cause, PipelineFull):
            self.abort()
        else:
            self._refuse(cause.status if isinstance(cause, Refused) else HTTPStatus.BAD_REQUEST)

    def _refuse(self, status: HTTPStatus) -> None:
        """Let `status` be the connection's last answer, after those that were asked for before."""
        self._refused = status
        self._unparsed = 0
        if self._reading is Reading.BODY:
            self._incomplete = False
            self.pipeline.clear()
        if self._running is None:
            self._answer_refusal(status)

    def _answer_refusal(self, status: HTTPStatus) -> None:
        method, path = self._request()
        trace_id = self._on_refused(method, path, status)
        self.transport.write(refusal(status, path, trace_id, self.server_state.default_headers))
        self.transport.write_eof()
        self._watch(self._limits.linger_seconds)

    def _request(self) -> tuple[str, str]:
        """Return method and path of what is being read, as far as they are known."""
        return (self.parser.get_method().decode() if self.url else ""), path_of(self.url)
