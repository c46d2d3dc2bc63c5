import asyncio
import io
import json
import logging
import threading
import warnings

import pytest
from hypothesis import given
from hypothesis import strategies as st

from telemetry import logs
from telemetry.catalogue import LOG_BUG, LOG_DEGRADED, LOG_REQUEST
from telemetry.instruments import Instruments
from telemetry.log_processors import _SECRET_VALUE, REDACTED, without_secrets
from telemetry.logs import configure
from telemetry.observe import Observer
from telemetry.testing import EXAMPLE_LABELS
from telemetry.tracing import open_tracing
from tests.support import PATIENCE


class Written:
    """The log of a process, from `configure` to `close`."""

    def __init__(self, stream, form, capture_content):
        self.stream = stream
        self.dropped = []
        self.logging = configure(
            form, stream=stream, capture_content=capture_content, on_dropped=lambda: self.dropped.append(1)
        )
        self.logger = self.logging.logger

    def text(self):
        self.logging.close()
        return self.stream.getvalue()

    def lines(self):
        return [json.loads(line) for line in self.text().splitlines()]


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def opened():
    made = []

    def make(form="auto", *, stream=None, capture_content=False):
        made.append(Written(stream or io.StringIO(), form, capture_content))
        return made[-1]

    yield make
    for written in made:
        written.logging.close()


def test_a_line_is_json_with_level_and_utc_time(opened):
    written = opened()
    written.logger.log(LOG_REQUEST, {"outcome": "completed", "generated_tokens": 3})
    (line,) = written.lines()
    assert (line["event"], line["level"], line["outcome"], line["generated_tokens"]) == (
        "request",
        "info",
        "completed",
        3,
    )
    assert line["timestamp"].endswith("Z")


def test_lines_of_libraries_come_out_as_the_same_json(opened):
    written = opened()
    logging.getLogger("uvicorn.error").info("Started server process [%d]", 7)
    (line,) = written.lines()
    assert (line["event"], line["level"]) == ("Started server process [7]", "info")


def test_a_line_knows_its_span(opened):
    written = opened()
    tracing = open_tracing(None, sample_ratio=1, resource={}, on_dropped=print, on_reached=print)
    observer = Observer(tracing.provider, Instruments(EXAMPLE_LABELS), written.logger)
    with observer.span("rerank") as span:
        observer.log(LOG_DEGRADED, dependency="rerank")
        logging.getLogger("uvicorn.error").warning("theirs")
    ours, theirs = written.lines()
    assert ours["trace_id"] == theirs["trace_id"] == span.trace_id
    assert ours["span_id"] == theirs["span_id"] == span.span_id


def test_an_attribute_that_is_cut_is_no_line_since_every_stranger_may_ask_for_a_long_path(opened):
    written = opened()
    tracing = open_tracing(None, sample_ratio=1, resource={}, on_dropped=print, on_reached=print)
    observer = Observer(tracing.provider, Instruments(EXAMPLE_LABELS), written.logger)
    with observer.span("GET", attributes={"url.path": "/" + "x" * 5_000}) as span:
        span.set("url.full", "x" * 5_000)
    assert written.lines() == []


def test_debug_lines_of_http_clients_and_sdks_are_left_out(opened):
    written = opened()
    for name in ("httpx", "urllib3.connectionpool", "opentelemetry.sdk", "openai"):
        logging.getLogger(name).info("GET https://example.org/?key=abc")
    assert written.lines() == []


def test_secrets_and_contents_are_redacted_at_any_depth(opened):
    written = opened()
    secret = "do-not-tell"
    keys = ("authorization", "API_KEY", "message", "text", "arguments", "content", "token", "prompt")
    written.logger.log(LOG_REQUEST, {"nested": [{"deep": dict.fromkeys(keys, secret)}], **dict.fromkeys(keys, secret)})
    text = written.text()
    assert secret not in text
    assert json.loads(text)["message"] == "[redacted]"


@pytest.mark.parametrize("leak", ["Bearer abcdefgh12345678", "fb_demo_0123456789abcdef", "sk-abcdefghijklmnop"])
def test_what_looks_like_a_key_is_redacted_in_any_text(opened, leak):
    written = opened()
    logging.getLogger("uvicorn.error").warning("header was %s", leak)
    assert leak not in written.text()


def test_captured_content_is_cut_and_secrets_stay_out(opened):
    written = opened(capture_content=True)
    written.logger.log(LOG_REQUEST, {"message": "m" * 5_000, "authorization": "Bearer abcdefgh12345678"})
    (line,) = written.lines()
    assert line["message"] == "m" * 1_024
    assert line["authorization"] == "[redacted]"


def failing(secret):
    try:
        raise KeyError(secret)
    except KeyError as error:
        raise RuntimeError(secret) from error


def test_an_exception_is_its_class_its_cause_and_our_stack_without_values(opened):
    written = opened()
    try:
        failing("what the client said")
    except RuntimeError as error:
        written.logger.log(LOG_BUG, {"exc_info": error})
    text = written.text()
    line = json.loads(text)
    assert (line["error_type"], line["caused_by"]) == ("RuntimeError", "KeyError")
    assert line["stack"][-1].startswith("tests/telemetry/test_logs.py:")
    assert line["stack"][-1].endswith(" in failing")
    assert "what the client said" not in text


def test_an_exception_that_a_library_logs_loses_its_text_too(opened):
    written = opened()
    try:
        failing("what the client said")
    except RuntimeError:
        logging.getLogger("uvicorn.error").exception("Exception in ASGI application")
    text = written.text()
    assert json.loads(text)["error_type"] == "RuntimeError"
    assert "what the client said" not in text


def test_asyncio_s_report_of_a_lost_exception_loses_its_text(opened):
    written = opened()

    async def lose():
        loop = asyncio.get_running_loop()
        lost = loop.create_future()
        lost.set_exception(ValueError("what the client said"))
        del lost

    asyncio.run(lose())
    text = written.text()
    assert json.loads(text)["event"] == "Future exception was never retrieved"
    assert "what the client said" not in text


def test_warnings_of_python_become_lines(opened):
    written = opened()
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        logging.captureWarnings(capture=True)
        warnings.warn("old use", DeprecationWarning, stacklevel=1)
    (line,) = written.lines()
    assert "old use" in line["event"]


def test_on_a_terminal_lines_are_for_people_and_cannot_forge_another(opened):
    written = opened(stream=Terminal())
    written.logger.log(LOG_REQUEST, {"session": "a\nb\x1b[2J"})
    text = written.text()
    assert not text.startswith("{")
    assert text.count("\n") == 1
    assert "\\x1b[2J" in text


def test_a_value_that_json_does_not_know_is_its_class(opened):
    written = opened()
    written.logger.log(LOG_REQUEST, {"thing": object()})
    (line,) = written.lines()
    assert line["thing"] == "object"


def test_a_reader_that_stands_still_costs_lines_and_no_time(opened, monkeypatch):
    monkeypatch.setattr(logs, "QUEUE_LINES", 100)
    writing, go_on = threading.Event(), threading.Event()

    class Stuck(io.StringIO):
        def write(self, text):
            writing.set()
            go_on.wait(PATIENCE)
            return super().write(text)

    written = opened(stream=Stuck())
    written.logger.log(LOG_REQUEST, {"number": 0})
    assert writing.wait(PATIENCE)
    for number in range(1, 131):
        written.logger.log(LOG_REQUEST, {"number": number})
    assert len(written.dropped) == 30
    go_on.set()
    assert [line["number"] for line in written.lines()] == list(range(101))


def test_lines_are_written_together_as_far_as_a_pipe_takes_them_whole(opened):
    class Unbuffered(io.StringIO):
        def write(self, text):
            pieces.append(text)
            return super().write(text)

    pieces = []
    written = opened(stream=Unbuffered())
    sizes = [10] * 50 + [5_000] + [10] * 50
    for number, size in enumerate(sizes):
        written.logger.log(LOG_REQUEST, {"number": number, "numbers": [7] * size})
    assert [line["number"] for line in written.lines()] == list(range(len(sizes)))
    assert len(pieces) < len(sizes) / 3
    assert all(piece.endswith("\n") for piece in pieces)
    assert all(len(piece) <= 4_096 or piece.count("\n") == 1 for piece in pieces)


def test_every_line_that_a_broken_pipe_did_not_take_is_counted(opened):
    class Broken(io.StringIO):
        def write(self, _text):
            raise BrokenPipeError

    written = opened(stream=Broken())
    for number in range(30):
        written.logger.log(LOG_REQUEST, {"number": number})
    written.logging.close()
    assert len(written.dropped) == 30


def test_lines_that_are_written_while_the_log_closes_are_all_there_and_in_order(opened):
    written = opened()
    for number in range(500):
        written.logger.log(LOG_REQUEST, {"number": number})
        logging.getLogger("uvicorn.error").info("%d", number)
    lines = written.lines()
    assert [line["number"] for line in lines if "number" in line] == list(range(500))
    assert [line["event"] for line in lines[1::2]] == [str(number) for number in range(500)]


def test_a_line_reaches_the_stream_while_the_service_runs(opened):
    class Told(io.StringIO):
        def flush(self):
            flushed.set()

    flushed = threading.Event()
    written = opened(stream=Told())
    for _ in range(3):  # the thread wakes for each of them
        written.logger.log(LOG_REQUEST, {"number": 0})
        assert flushed.wait(30)
        flushed.clear()


def test_closing_gives_the_loggers_back(opened):
    before = logging.getLogger().handlers[:], logging.getLogger("httpx").level
    written = opened()
    assert (logging.getLogger().handlers, logging.getLogger("httpx").level) != before
    written.logging.close()
    assert (logging.getLogger().handlers, logging.getLogger("httpx").level) == before


# Letters that the expression takes for others whatever their case: the long s, the sign of Kelvin.
PIECES = st.sampled_from(
    ["bearer", "BeaREr", " ", "fb_", "FB_x_", "sk-", "\u017fk-", "s\u212a-", "12345678", "ﬀ", "İ", "b"]
)


@given(st.lists(PIECES | st.text(max_size=3), max_size=8).map("".join))
def test_a_text_that_is_looked_at_in_passing_comes_out_as_the_expression_leaves_it(text):
    assert without_secrets(text) == _SECRET_VALUE.sub(REDACTED, text)
