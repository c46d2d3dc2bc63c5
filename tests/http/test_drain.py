"""SIGTERM with many streams open: each is told, each is stored, and nothing of the telemetry is lost."""

import asyncio
import contextlib
import json
import os
import sqlite3
from pathlib import Path

import pytest

from tests.http.raw import address, chat, family
from tests.process import SIMULATED, Service
from tests.support import PATIENCE, PROOF, proof_count, until
from tests.telemetry.otlp_sink import OtlpSink

STREAMS = proof_count(100, 200)
GRACE = 2.0
LATE = 0.25 if PROOF else 10.0  # seconds after the grace until the last one is told; about 0.1
CONFIG = f"""
[server]
drain_seconds = {GRACE}
[limits]
requests = 500
tenant_requests = 500
[[providers]]
name = "simulated"
kind = "simulated"
models = ["sim"]
max_concurrency = 1000
[telemetry]
otlp_endpoint = "{{}}"
"""


class Kept:
    """How long the machine has kept the service and us from running, although there was something to do.

    Others use it as well, and what they take is not the drain's. Linux says it; elsewhere it is taken for 0.
    """

    def __init__(self, service):
        self._files = [Path(f"/proc/{pid}/schedstat") for pid in (os.getpid(), *family(service))]

    def seconds(self):
        waited = 0
        for file in self._files:
            with contextlib.suppress(OSError):  # a process that has ended
                waited += int(file.read_text().split()[1])
        return waited / 1e9


class Stream:
    """One open stream, read to its end, with the moment of its last event."""

    def __init__(self, service, number, model, kept):
        self.service, self.number, self.model, self.kept = service, number, model, kept
        self.opened = asyncio.Event()
        self.data = b""
        self.told_at = self.kept_until = None

    async def read(self):
        async with asyncio.timeout(PATIENCE):
            reader, writer = await asyncio.open_connection(*address(self.service))
            writer.write(chat(self.model, session=f"s{self.number}"))
            while not self.data.endswith(b"0\r\n\r\n") and (piece := await reader.read(65536)):
                self.data += piece
                if b"event: token_delta" in self.data:
                    self.opened.set()
                if self.told_at is None and (b"event: error" in self.data or b"event: message_completed" in self.data):
                    self.told_at, self.kept_until = asyncio.get_running_loop().time(), self.kept.seconds()
            writer.close()
        self.opened.set()

    @property
    def last(self):
        """The last event: its type and its data."""
        lines = [line for line in self.data.decode().splitlines() if line.startswith(("event: ", "data: "))]
        return lines[-2].removeprefix("event: "), json.loads(lines[-1].removeprefix("data: "))


async def opened(service, models):
    """Streams of which each has told a token, their readers, and what counts how long the machine kept us waiting."""
    kept = Kept(service)
    streams = [Stream(service, number, model, kept) for number, model in enumerate(models)]
    reading = [asyncio.create_task(stream.read()) for stream in streams]
    async with asyncio.timeout(PATIENCE):
        for stream in streams:
            await stream.opened.wait()
    return streams, reading, kept


async def drained(service, models):
    """Open the streams, send SIGTERM, and read them to their ends.

    Returns them, the moment of the signal, and for how long the machine had kept us waiting until the grace was over.
    """
    streams, reading, kept = await opened(service, models)
    signalled = asyncio.get_running_loop().time()
    service.process.terminate()
    await asyncio.sleep(GRACE)
    kept_before = kept.seconds()
    await asyncio.gather(*reading)
    return streams, signalled, kept_before


def stored(service):
    with sqlite3.connect(service.folder / "data" / "forebay.db") as db:
        found = dict(db.execute("SELECT status, count(*) FROM messages WHERE role='assistant' GROUP BY 1"))
    db.close()
    return found


@pytest.mark.parametrize("workers", [1, 2])
def test_open_streams_are_told_at_the_end_of_the_grace_and_stored(tmp_path, workers):
    with OtlpSink() as sink, Service(tmp_path, CONFIG.format(sink.url), "--workers", str(workers)) as service:
        until(lambda: len(service.lines("service_started")) == workers)
        streams, signalled, kept = asyncio.run(drained(service, ["sim:stall_at=2"] * STREAMS))
        ended = {(kind, data["code"], data["retryable"]) for kind, data in (stream.last for stream in streams)}
        assert ended == {("error", "shutting_down", True)}
        late = sorted(stream.told_at - signalled - GRACE for stream in streams)
        others = max(stream.kept_until for stream in streams) - kept
        assert late[0] >= -0.05
        assert late[-1] - others <= LATE, f"told {late[0]:.3f} to {late[-1]:.3f} s after it, {others:.3f} s others'"
        assert service.stop() == 0
        spans = sink.wait_for(1, 0.0)
    ends = [span for span in spans if span["name"] == "POST /chat/stream"]
    assert len(ends) == STREAMS, "every trace was sent, to its end, before the process was gone"
    assert stored(service) == {"cancelled": STREAMS}
    requests = service.lines("request")
    assert [line["outcome"] for line in requests] == ["cancelled"] * STREAMS
    assert {line["cause"] for line in requests} == {"shutdown"}
    assert len(service.lines("service_stopped")) == workers
    assert not service.lines("cleanup_overrun")
    assert not service.lines("bug")


def test_what_ends_within_the_grace_ends_as_if_nothing_had_happened(tmp_path):
    async def scenario():
        """The second signal ends what is left of a grace that is far too long."""
        streams, reading, _ = await opened(service, ["sim:stall_at=2"] * 5 + ["sim:tokens=40,interval_ms=20"] * 20)
        service.process.terminate()
        await asyncio.gather(*reading[5:])
        service.process.terminate()
        await asyncio.gather(*reading)
        return [stream.last[0] for stream in streams]

    with Service(tmp_path, f"[server]\ndrain_seconds = 3600\n{SIMULATED}") as service:
        assert asyncio.run(scenario()) == ["error"] * 5 + ["message_completed"] * 20
        assert service.stop() == 0
    assert stored(service) == {"completed": 20, "cancelled": 5}
