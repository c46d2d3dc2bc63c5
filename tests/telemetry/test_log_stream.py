"""The log on a stream that is not UTF-8."""

import io

import pytest

from telemetry.catalogue import LOG_REQUEST
from telemetry.logs import configure


@pytest.mark.parametrize(
    ("encoding", "value", "seen"),
    [("utf-8", "/\udcff", "/\\udcff"), ("latin-1", "/漢", "/\\u6f22"), ("latin-1", "/é", "/é")],
)
def test_a_line_that_the_stream_cannot_encode_is_escaped_and_costs_no_other(encoding, value, seen):
    stream, dropped = io.TextIOWrapper(io.BytesIO(), encoding=encoding), []
    log = configure("console", stream=stream, on_dropped=lambda: dropped.append(1))
    for route in ("/before", value, "/after"):
        log.logger.log(LOG_REQUEST, {"route": route})
    log.close()
    lines = stream.buffer.getvalue().decode(encoding).splitlines()
    assert [line.rpartition("route=")[2] for line in lines] == ["/before", seen, "/after"]
    assert dropped == []
