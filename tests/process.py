"""The service as its user runs it: a process of its own, on a free port, with a data folder of its own."""

from __future__ import annotations

import contextlib
import functools
import json
import os
import queue
import re
import signal
import subprocess
import sys
import tempfile
import threading
import tomllib
from pathlib import Path
from typing import Self

import httpx

from service.store import migrate
from tests.support import PATIENCE, until

KEY = "fb_demo_key-of-the-tests"
SIMULATED = """
[[providers]]
name = "simulated"
kind = "simulated"
models = ["sim"]
max_concurrency = 1000
"""
START = 120.0  # seconds: a busy machine takes its time
END = PATIENCE

# The shipped budgets are for a machine that serves; on one that is busy with something else, a phase of a turn would
# now and then overrun its own. Whoever tests a budget sets it. In milliseconds; each within the one before it.
TOTAL, GENERATION, TOKENS, PHASE = 250_000, 240_000, 200_000, 30_000
IN_GENERATION = ("first_token_ms", "token_gap_ms")
IN_TOTAL = ("input_validation_ms", "policy_ms", "context_ms", "retrieval_ms", "rerank_ms", "tool_ms", "finalization_ms")


def patience(config: str) -> dict[str, str]:
    """Return variables that set every budget that `config` leaves to its default."""
    own = tomllib.loads(config).get("budgets", {})
    total = own.get("total_ms", TOTAL)
    generation = min(own.get("generation_ms", GENERATION), total)
    patient = {"total_ms": total, "generation_ms": generation, "emit_ms": 60_000}
    patient |= dict.fromkeys(IN_GENERATION, min(TOKENS, generation)) | dict.fromkeys(IN_TOTAL, min(PHASE, total))
    return {f"FOREBAY_BUDGETS__{name.upper()}": str(value) for name, value in patient.items() if name not in own}


def migrated(path: Path) -> None:
    """Put a state database that is up to date at `path`, unless there is one: made once, and copied for all."""
    with _MAKING:
        content = _new_database()
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch(mode=0o600)
        path.write_bytes(content)


_MAKING = threading.Lock()  # Alembic knows of one migration at a time


@functools.cache
def _new_database() -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "forebay.db"
        migrate(f"sqlite:///{path}")
        return path.read_bytes()


class Service:
    """A running `forebay serve`. `log` holds its lines of JSON so far; `url` is where it answers.

    Its state database is there before it starts, which saves a fifth of the start, unless it is to be `fresh`.
    """

    def __init__(
        self,
        folder: Path,
        config: str = SIMULATED,
        *arguments: str,
        environ: dict[str, str] | None = None,
        fresh: bool = False,
    ):
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        path = folder / "forebay.toml"
        path.write_text(config, encoding="utf-8")
        command = [sys.executable, "-m", "service", "serve", "--config", str(path), "--port", "0"]
        if "state" not in config:
            command += ["--data-dir", str(folder / "data")]
            if not fresh:
                migrated(folder / "data" / "forebay.db")
        self.log: list[dict] = []
        self.greeting: list[str] = []
        self._started: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self.process = subprocess.Popen(
            [*command, *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "FOREBAY_DEMO_KEY": KEY, "NO_PROXY": "127.0.0.1", **patience(config), **(environ or {})},
        )
        self._readers = [threading.Thread(target=read) for read in (self._read_log, self._read_greeting)]
        for reader in self._readers:
            reader.start()
        url = self._started.get(timeout=START)
        if url is None:
            self.stop()
            raise AssertionError("the service did not start:\n" + "".join(self.greeting) + "\n" + str(self.log))
        self.url = url

    def _read_log(self) -> None:
        for line in self.process.stdout:
            try:
                self.log.append(json.loads(line))
            except ValueError:
                self.greeting.append(line)
        self._started.put(None)

    def _read_greeting(self) -> None:
        for line in self.process.stderr:
            self.greeting.append(line)
            if found := re.search(r"serves on (http://\S+)", line):
                self._started.put(found[1])

    @property
    def headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {KEY}"}

    def client(self, **more) -> httpx.Client:
        return httpx.Client(base_url=self.url, headers=self.headers, timeout=END, trust_env=False, **more)

    def metric(self, name: str, **labels: str) -> float:
        """The sum of a metric's samples with these labels, as /metrics shows it now."""
        with self.client() as client:
            text = client.get("/metrics").text
        total = 0.0
        for line in text.splitlines():
            if line.startswith((f"{name}{{", f"{name} ")) and all(f'{k}="{v}"' in line for k, v in labels.items()):
                total += float(line.rpartition(" ")[2])
        return total

    def comes_to(self, wanted: float, name: str, **labels: str) -> None:
        """Wait until a metric is what is wanted: what an answer told of may be counted a moment after it was read."""
        until(lambda: self.metric(name, **labels) == wanted, what=lambda: f"{name} is {self.metric(name, **labels)}")

    def lines(self, event: str) -> list[dict]:
        return [line for line in self.log if line["event"] == event]

    def kill(self) -> None:
        self.process.kill()
        self._wait()

    def stop(self, sig: int = signal.SIGTERM) -> int:
        """End it as an operator does, and return its exit code."""
        with contextlib.suppress(ProcessLookupError):
            self.process.send_signal(sig)
        return self._wait()

    def _wait(self) -> int:
        try:
            code = self.process.wait(END)
        except subprocess.TimeoutExpired:
            self.process.kill()
            code = self.process.wait(END)
        for reader in self._readers:
            reader.join(END)
        self.process.stdout.close()
        self.process.stderr.close()
        return code

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_) -> None:
        if self.process.poll() is None:
            self.stop()
        else:
            self._wait()


def events(text: str) -> list[tuple[str, dict]]:
    """The events of a whole SSE answer: (type, data), in order."""
    found = []
    for block in text.split("\n\n"):
        lines = dict(line.split(": ", 1) for line in block.splitlines() if line and not line.startswith(":"))
        if lines:
            found.append((lines["event"], json.loads(lines["data"])))
    return found
