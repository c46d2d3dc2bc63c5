"""The whole product as it is run, for measuring: `forebay serve` with a configuration, telemetry on or off.

`python -m tests.benchmarks.service full|off PORT FOLDER`, with the settings in FOLDER/forebay.toml. `off` puts a silent
observer in telemetry's place and leaves out the instrumentation of HTTP: what is left is the service without telemetry.
"""

from __future__ import annotations

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
"""


class Forebay(Server):
    """A service in a folder of its own, which goes with it.

    Args:
        config: settings in TOML.
        telemetry: `full` or `off`.
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
    forebay(["serve", "--config", "forebay.toml", "--data-dir", "data", "--port", port])


if __name__ == "__main__":
    main(*sys.argv[1:])
