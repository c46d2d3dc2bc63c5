"""The log: one line of JSON per event, with the trace it belongs to, and nothing in it that anybody said.

Called once per process by the composition root. Lines of uvicorn and of libraries come out the same. A line is rendered
where it is written, so that it knows its span, and written to the stream by a thread of its own: a reader that stands
still costs lines, which are counted, and never stops the event loop.
"""

from __future__ import annotations

import json
import logging
import sys
import threading
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any, Literal, TextIO

import structlog
from structlog.stdlib import ProcessorFormatter
from structlog.typing import Processor

from telemetry.log_processors import add_trace, escape_control_characters, first_line_of_asyncio, redactor, stack_only
from telemetry.rows import LogEvent

QUEUE_LINES = 10_000  # some 5 MB of lines, and half a minute of a busy service
ATOMIC_BYTES = 4_096  # PIPE_BUF of Linux: so much JSON, which is ASCII, is one piece in a pipe, whoever else writes
GATHER_SECONDS = 0.05  # a line waits so long for others: a thread that wakes for each one takes a third of its CPU
LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}
CAPS = {
    # Below WARNING these tell of every request they make, some of them with headers and bodies.
    **dict.fromkeys(("urllib3", "requests", "httpx", "httpcore", "aiohttp", "openai", "anthropic"), logging.WARNING),
    **dict.fromkeys(("opentelemetry", "asyncio", "alembic"), logging.WARNING),
    # It tells of each attribute that it cuts: a long path, which anybody may ask for, would be two lines.
    "opentelemetry.attributes": logging.ERROR,
    # A collector that is down would fill the log with a line a second: `telemetry_unreachable` says it once.
    "opentelemetry.exporter": logging.CRITICAL,
    "opentelemetry.sdk._shared_internal": logging.CRITICAL,
    # The SDK of MCP and its HTTP client: they quote what servers say, and addresses. Our own rows tell who failed.
    **dict.fromkeys(("mcp", "client", "httpx2", "httpcore2"), logging.CRITICAL),
}

Format = Literal["auto", "json", "console"]


class Logger:
    """Writes rows of the catalogue. `structlog_logger` is any bound logger of structlog."""

    def __init__(self, structlog_logger: Any) -> None:
        self._bound = structlog_logger

    def log(self, event: LogEvent, fields: Mapping[str, Any]) -> None:
        """Write one line."""
        self._bound.log(LEVELS[event.level], event.name, **fields)


class QueuedStream(logging.Handler):
    """Takes rendered lines, and records to render here and now, and leaves the writing to a thread."""

    def __init__(self, stream: TextIO, on_dropped: Callable[[], None]) -> None:
        super().__init__()
        self._stream = stream
        self._on_dropped = on_dropped
        self._lines: deque[str] = deque()
        self._waiting, self._closing = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._write, name="log-writer", daemon=True)
        self._thread.start()

    def emit(self, record: logging.LogRecord) -> None:
        """Queue a record's line."""
        self.put(self.format(record))

    def put(self, line: str) -> None:
        """Queue `line`; drop it if the queue is full."""
        if len(self._lines) >= QUEUE_LINES:
            self._on_dropped()
            return
        self._lines.append(line)
        if not self._waiting.is_set():
            self._waiting.set()

    def close(self) -> None:
        """Write what waits, for at most two seconds."""
        self._closing.set()
        self._waiting.set()
        self._thread.join(2.0)
        super().close()

    def _write(self) -> None:
        while not self._closing.is_set():
            self._waiting.wait()
            self._closing.wait(GATHER_SECONDS)
            self._waiting.clear()  # first: a line that comes from here on wakes us again
            self._write_lines()
        self._write_lines()

    def _write_lines(self) -> None:
        while self._lines:
            text, lines = self._take()
            try:
                self._write_text(text)
                self._stream.flush()
            except (OSError, ValueError):  # the other end of the pipe has gone, or the stream is closed
                for _ in range(lines):
                    self._on_dropped()

    def _write_text(self, text: str) -> None:
        try:
            self._stream.write(text)
        except UnicodeEncodeError:  # a file's name need not be text, nor a terminal's encoding UTF-8
            known = self._stream.encoding
            self._stream.write(text.encode(known, "backslashreplace").decode(known))

    def _take(self) -> tuple[str, int]:
        """Return some lines, at least one, for one write: each gives the interpreter's lock back."""
        text, lines = "", 0
        while self._lines and (not lines or len(text) + len(self._lines[0]) < ATOMIC_BYTES):
            text += self._lines.popleft() + "\n"
            lines += 1
        return text, lines


class Logging:
    """The root handler of this process, from `configure` to `close`."""

    def __init__(self, handler: QueuedStream, processors: list[Processor]) -> None:
        self._handler = handler
        self.logger = Logger(_bound(handler.put, processors))
        root = logging.getLogger()
        self._before = (root.level, root.handlers[:])
        root.handlers[:] = [handler]
        root.setLevel(logging.INFO)
        logging.captureWarnings(capture=True)
        self._levels_before = {name: logging.getLogger(name).level for name in CAPS}
        _set_levels(CAPS)

    def close(self) -> None:
        """Write what waits and give the loggers back as they were."""
        logging.captureWarnings(capture=False)
        root = logging.getLogger()
        level, root.handlers[:] = self._before
        root.setLevel(level)
        _set_levels(self._levels_before)
        self._handler.close()


def configure(
    form: Format = "auto",
    *,
    stream: TextIO | None = None,
    capture_content: bool = False,
    on_dropped: Callable[[], None] = lambda: None,
) -> Logging:
    """Take over the root logger of this process.

    Args:
        form: `auto` is `console` on a terminal and `json` elsewhere.
        stream: where lines go; standard output by default.
        capture_content: let contents and exceptions' texts through, cut to 1,024 characters; secrets never.
        on_dropped: called for each line that is thrown away, in whichever thread it happens.
    """
    out = stream or sys.stdout
    terminal = out.isatty()
    processors, renderers = shared_processors(capture_content=capture_content), _renderers(form, terminal=terminal)
    handler = QueuedStream(out, on_dropped)
    handler.setFormatter(
        ProcessorFormatter(
            foreign_pre_chain=[first_line_of_asyncio, *processors],
            processors=[ProcessorFormatter.remove_processors_meta, *renderers],
        )
    )
    return Logging(handler, [*processors, *renderers])


def shared_processors(*, capture_content: bool = False) -> list[Processor]:
    """Return what every line goes through before it is rendered, ours or a library's."""
    return [
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        add_trace,
        stack_only(capture_content=capture_content),
        redactor(capture_content=capture_content),
    ]


def recording_logger(lines: list[dict[str, Any]]) -> Logger:
    """Return a logger that appends what would be rendered to `lines`: for tests."""

    def keep(_logger: Any, _method: str, event: Any) -> Any:
        lines.append(dict(event))
        raise structlog.DropEvent

    return Logger(_bound(_nowhere, [*shared_processors(), keep]))


def _set_levels(levels: Mapping[str, int]) -> None:
    for name, level in levels.items():
        logging.getLogger(name).setLevel(level)


class _Sink:
    """What structlog calls with a rendered line. Ours go past `logging`, which took a quarter of a line's CPU."""

    def __init__(self, put: Callable[[str], None]) -> None:
        self.info = self.warning = self.error = put


def _nowhere(_line: str) -> None:
    """Take a line that was kept elsewhere."""


def _bound(put: Callable[[str], None], processors: list[Processor]) -> Any:
    return structlog.wrap_logger(
        _Sink(put),
        processors=processors,
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        cache_logger_on_first_use=True,
    )


def _renderers(form: Format, *, terminal: bool) -> list[Processor]:
    if form == "console" or (form == "auto" and terminal):
        return [escape_control_characters, structlog.dev.ConsoleRenderer(colors=terminal)]
    return [structlog.processors.JSONRenderer(serializer=_json)]


_ENCODER = json.JSONEncoder(default=lambda value: type(value).__qualname__)


def _json(event: Any, **_: Any) -> str:
    """Encode a line; of a value that JSON does not know only the class is told."""
    return _ENCODER.encode(event)
