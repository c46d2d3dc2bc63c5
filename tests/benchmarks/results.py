"""Results on paper: rows of what was measured against what was wanted, as JSON, and all of them on one page."""

from __future__ import annotations

import json
import operator
import os
import platform
import re
import subprocess
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.benchmarks.measure import Spread

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.benchmarks.noise import Noise

FOLDER = Path(__file__).parent / "results"
PAGE = Path(__file__).with_name("RESULTS.md")
HEAD = Path(__file__).with_name("RESULTS.head.md")
GOAL = re.compile(r"(?P<relation>[≤≥<]) (?P<bound>[\d.]+)")  # what follows it, such as an aim beyond, is for the reader
RELATIONS = {"≤": operator.le, "≥": operator.ge, "<": operator.lt}


@dataclass(frozen=True)
class Row:
    """A number that was measured, and the goal for it if there is one, as `≤ 2`."""

    what: str
    value: Spread | float | str
    goal: str = ""

    def plain(self) -> dict[str, Any]:
        number = self.value.median if isinstance(self.value, Spread) else self.value
        shown = f"{self.value:.4g}" if isinstance(self.value, float) else str(self.value)
        value = self.value.plain() if isinstance(self.value, Spread) else self.value
        return {"what": self.what, "value": value, "shown": shown, "goal": self.goal, "met": met(number, self.goal)}


def met(number: float | str, goal: str) -> bool | None:
    """Whether the goal is met, at the median; None where no number is wanted."""
    wanted = GOAL.match(goal)
    if wanted is None or isinstance(number, str):
        return None
    return bool(RELATIONS[wanted["relation"]](number, float(wanted["bound"])))


@dataclass(frozen=True)
class Result:
    """One benchmark. `measures` says in a sentence what it measures, `about` how much of it was run."""

    title: str
    measures: str
    about: str
    rows: list[Row] = field(default_factory=list)

    def plain(self) -> dict[str, Any]:
        """The numbers."""
        about = {"title": self.title, "measures": self.measures.strip(), "about": self.about}
        return {**about, "rows": [row.plain() for row in self.rows]}


def keep(name: str, result: Result, where: dict[str, str], noise: Noise) -> dict[str, Any]:
    """Write a benchmark's numbers to results/NAME.json, with when, where and in what noise, and return them."""
    FOLDER.mkdir(exist_ok=True)
    told = {**result.plain(), **where, "noise": noise.plain()}
    path = FOLDER / f"{name}.json"
    path.write_text(json.dumps(told, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return told


def write_page(names: Sequence[str]) -> None:
    """Put RESULTS.md together from what was measured last, in this order."""
    paths = [path for name in names if (path := FOLDER / f"{name}.json").exists()]
    kept = [json.loads(path.read_text(encoding="utf-8")) for path in paths]
    goals = [row for told in kept for row in told["rows"] if row["met"] is not None]
    reached = sum(row["met"] for row in goals)
    missed = [f"- {told['title']}: {row['what']}" for told in kept for row in told["rows"] if row["met"] is False]
    parts = [
        HEAD.read_text(encoding="utf-8"),
        f"Of {len(goals)} goals {reached} are met. Not met:\n" if missed else f"All {len(goals)} goals are met.\n",
        *([*missed, ""] if missed else []),
        *map(section, kept),
    ]
    PAGE.write_text("\n".join(parts), encoding="utf-8")


def section(told: dict[str, Any]) -> str:
    """One benchmark's part of the page."""
    lines = [f"| {row['what']} | {row['shown']} | {row['goal']} | {_verdict(row['met'])} |" for row in told["rows"]]
    noise = told["noise"]
    where = (
        f"{told['about']}. Commit {told['commit']}, {told['at']}; {told['machine']}, Python {told['python']}. "
        f"Meanwhile others used {noise['others']:.0%} of the machine and its host took {noise['stolen']:.1%}."
    )
    table = ["| | median (range) | goal | met |", "|---|---|---|---|", *lines]
    return "\n".join([f"## {told['title']}", "", told["measures"], "", where, "", *table, ""])


def _verdict(reached: bool | None) -> str:
    return {True: "yes", False: "**no**", None: ""}[reached]


def here() -> dict[str, str]:
    """Which code runs, when and on what machine."""
    asked = ["git", "describe", "--always", "--abbrev=12", "--dirty=, changed since"]
    commit = subprocess.run(asked, capture_output=True, text=True, check=False)
    return {
        "commit": commit.stdout.strip(),
        "at": datetime.now(UTC).isoformat(timespec="minutes"),
        "machine": f"{os.cpu_count()} cores of {_processor()}, Linux {platform.release()}",
        "python": platform.python_version(),
    }


def _processor() -> str:
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())
