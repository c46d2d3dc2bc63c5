"""The whole product as it is run, for measuring: `forebay serve` with a configuration, telemetry on or off.

`python -m tests.benchmarks.service full|off|profiled PORT FOLDER`, with the settings in FOLDER/forebay.toml. `off` puts
a silent observer in telemetry's place and leaves out the instrumentation of HTTP: what is left is the service without.
"""

from __future__ import annotations

import cProfile
import os
import sys
import tempfile
from pathlib import Path
from typing import Self

from service import app
from service.api import build
from service.cli import main as forebay
from tests.benchmarks.measure import Server
from tests.benchmarks.silent import Silent

KEY = "fb_bench_key-of-the-benchmarks"
HEADERS = {"Authorization": f"Bearer {KEY}"}

SIMULATED = """
[[providers]]
name = "simulated"
kind = "simulated"
models = ["sim"]
max_concurrency = 100000
"""
WIDE = """
[limits]
requests = 100000
tenant_requests = 100000
queue = 100000
[budgets]
total_ms = 600000
input_validation_ms = 10000
policy_ms = 10000
context_ms = 10000
admission_ms = 10000
retrieval_ms = 10000
rerank_ms = 10000
first_token_ms = 600000
token_gap_ms = 600000
generation_ms = 600000
finalization_ms = 10000
"""
"""Nothing is refused and nothing given up: a machine that is busy with something else is to cost time, not streams."""


def upstream(url: str) -> str:
    """Settings of a provider at `url`."""
    return f"""
[[providers]]
name = "upstream"
kind = "openai_compatible"
base_url = "{url}/v1"
models = ["small"]
max_concurrency = 100000
"""


def traced(collector: str, ratio: float) -> str:
    """Settings of full telemetry, with so many of the traces kept."""
    return f'[telemetry]\notlp_endpoint = "{collector}"\nsample_ratio = {ratio}\n'


class Forebay(Server):
    """A service in a folder of its own, which goes with it.

    Args:
        config: settings in TOML.
        telemetry: `full`, `off`, or `profiled`: full, and what the main thread did is in FOLDER/profile at the end.
        folder: where its data is, if somebody made some; it stays.
    """

    def __init__(self, config: str, *, telemetry: str = "full", folder: Path | None = None) -> None:
        self._temporary = tempfile.TemporaryDirectory(prefix="forebay-bench-")
        self.folder = folder or Path(self._temporary.name)
        (self.folder / "forebay.toml").write_text(config, encoding="utf-8")
        super().__init__(telemetry, str(self.folder), module="tests.benchmarks.service")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        super().__exit__(*error)
        self._temporary.cleanup()


class _NoTelemetry:
    """In the place of telemetry.setup.Telemetry."""

    collector = "off"

    def __init__(self, options):
        self.observer = Silent()

    def render(self, accept=""):
        return b"", "text/plain"

    def close(self):
        pass


def main(telemetry: str, port: str, folder: str) -> None:
    """Serve until a signal comes."""
    os.environ["FOREBAY_DEMO_KEY"] = KEY
    if telemetry == "off":
        app.Telemetry = _NoTelemetry
        build.instrument = lambda application, observer, *, trusts: None
    os.chdir(folder)
    serve = ["serve", "--config", "forebay.toml", "--data-dir", "data", "--port", port]
    if telemetry != "profiled":
        forebay(serve)
        return
    profile = cProfile.Profile()
    try:
        profile.runcall(forebay, serve)
    except SystemExit:
        profile.dump_stats("profile")


if __name__ == "__main__":
    main(*sys.argv[1:])
