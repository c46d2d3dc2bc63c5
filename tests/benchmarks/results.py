"""Results on paper: rows of what was measured against what was wanted, as a table and as JSON."""

from __future__ import annotations

import json
import os
import platform
import subprocess
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tests.benchmarks.measure import Spread

FOLDER = Path(__file__).parent / "results"
PAGE = Path(__file__).with_name("RESULTS.md")
HEAD = """
Made by `make bench`; the numbers are beside this page in `results/`. Variants run in interleaved rounds, and ratios are
taken within a round. CPU is the kernel's account of the server's processes. Where the machine was shared while this
ran, ratios of CPU tell more than anything that was timed; how busy it was stands under each table.
"""


@dataclass(frozen=True)
class Row:
    """A number that was measured, and the goal for it if there is one."""

    what: str
    value: Spread | float | str
    goal: str = ""

    def shown(self) -> str:
        return f"{self.value:.4g}" if isinstance(self.value, float) else str(self.value)

    def plain(self) -> dict[str, Any]:
        value = self.value.plain() if isinstance(self.value, Spread) else self.value
        return {"what": self.what, "value": value, "goal": self.goal}


@dataclass(frozen=True)
class Result:
    """One benchmark. `measures` says in a sentence what it measures, `about` how much of it was run."""

    title: str
    measures: str
    about: str
    rows: list[Row] = field(default_factory=list)

    def page(self) -> str:
        """The result as a part of the page."""
        lines = [f"| {row.what} | {row.shown()} | {row.goal} |" for row in self.rows]
        table = ["| | median (range) | goal |", "|---|---|---|", *lines]
        return "\n".join([f"## {self.title}", "", self.measures.strip(), "", f"{self.about}.", "", *table, ""])

    def plain(self) -> dict[str, Any]:
        """The numbers."""
        about = {"title": self.title, "measures": self.measures.strip(), "about": self.about}
        return {**about, "rows": [row.plain() for row in self.rows]}


def keep(name: str, result: Result) -> None:
    """Write a benchmark's numbers to results/NAME.json, its table to results/NAME.md, with when and where."""
    FOLDER.mkdir(exist_ok=True)
    here = _here()
    told = json.dumps({**result.plain(), **here}, indent=1, ensure_ascii=False)
    (FOLDER / f"{name}.json").write_text(told + "\n", encoding="utf-8")
    where = f"At {here['commit']}, {here['at']}; one minute's load of the machine {here['load']}."
    (FOLDER / f"{name}.md").write_text(f"{result.page()}\n{where}\n", encoding="utf-8")


def write_page() -> None:
    """Put RESULTS.md together from what was measured last."""
    tables = [path.read_text(encoding="utf-8") for path in sorted(FOLDER.glob("*.md"))]
    here = _here()
    head = f"# Results\n\n{HEAD.strip()}\n\nMachine: {here['machine']}; Python {here['python']}.\n"
    PAGE.write_text("\n".join([head, *tables]), encoding="utf-8")


def _here() -> dict[str, str]:
    commit = subprocess.run(["git", "rev-parse", "--short=12", "HEAD"], capture_output=True, text=True, check=False)
    return {
        "commit": commit.stdout.strip(),
        "at": datetime.now(UTC).isoformat(timespec="minutes"),
        "machine": f"{os.cpu_count()} cores of {_processor()}, Linux {platform.release()}",
        "python": platform.python_version(),
        "load": f"{os.getloadavg()[0]:.1f}",
    }


def _processor() -> str:
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())
