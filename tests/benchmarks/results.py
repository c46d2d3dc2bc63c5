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

FOLDER = Path(__file__).parent


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
        lines = [f"| {row.what} | {row.shown()} | {row.goal} |" for row in self.rows]
        table = ["| | median (range) | goal |", "|---|---|---|", *lines]
        return "\n".join([f"## {self.title}", "", self.measures.strip(), "", f"{self.about}.", "", *table, ""])

    def plain(self) -> dict[str, Any]:
        return {"title": self.title, "about": self.about, "rows": [row.plain() for row in self.rows]}


def keep(name: str, result: Result) -> None:
    """Write one benchmark's numbers to results/NAME.json with when and where, and the page of all of them anew."""
    folder = FOLDER / "results"
    folder.mkdir(exist_ok=True)
    told = {**result.plain(), "measures": result.measures.strip(), **_here()}
    (folder / f"{name}.json").write_text(json.dumps(told, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def _here() -> dict[str, str]:
    commit = subprocess.run(["git", "rev-parse", "--short=12", "HEAD"], capture_output=True, text=True, check=False)
    return {
        "commit": commit.stdout.strip(),
        "at": datetime.now(UTC).isoformat(timespec="minutes"),
        "machine": f"{os.cpu_count()} cores, {_processor()}, Python {platform.python_version()}",
        "load": f"{os.getloadavg()[0]:.1f}",
    }


def _processor() -> str:
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())
