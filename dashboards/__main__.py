"""Write what Grafana and Prometheus read: `python -m dashboards`; with `--check`, fail if what is there is old.

`--runbook URL` and `--grafana URL` are where alerts shall point to; the defaults are the compose stack's addresses.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from dashboards.boards import BOARDS
from dashboards.burn import slo_group
from dashboards.causes import cause_group
from dashboards.rules import Links, prometheus_rule, rules_file

ROOT = Path(__file__).parent.parent


def files(links: Links) -> dict[str, str]:
    """Return every generated file: path below the repository's root → content."""
    groups = (slo_group(), cause_group())
    return {
        **{f"dashboards/generated/{board.uid}.json": board.to_json() for board in BOARDS},
        "deploy/prometheus/rules/slo.yml": rules_file(groups[:1], links),
        "deploy/prometheus/rules/causes.yml": rules_file(groups[1:], links),
        "deploy/kubernetes/prometheusrule.yaml": prometheus_rule(groups, links),
    }


def main(arguments: list[str]) -> int:
    """Write the files below `--out`, or with `--check` return 1 if one of them differs or is not of ours."""
    parser = argparse.ArgumentParser(prog="python -m dashboards", description=__doc__)
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--runbook", default=Links.runbook)
    parser.add_argument("--grafana", default=Links.grafana)
    parser.add_argument("--out", type=Path, default=ROOT)
    given = parser.parse_args(arguments)
    wanted = files(Links(given.runbook, given.grafana))
    there = {str(path.relative_to(given.out)) for path in (given.out / "dashboards/generated").glob("*.json")}
    extra = there - wanted.keys()
    if not given.check:
        for path in extra:
            (given.out / path).unlink()
        for path, content in wanted.items():
            (given.out / path).parent.mkdir(parents=True, exist_ok=True)
            (given.out / path).write_text(content, encoding="utf-8")
        return 0
    old = [path for path, content in wanted.items() if not _is(given.out / path, content)]
    for path in (*old, *extra):
        sys.stderr.write(f"{path} is old: run `python -m dashboards`\n")
    return 1 if old or extra else 0


def _is(path: Path, content: str) -> bool:
    return path.exists() and path.read_text(encoding="utf-8") == content


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
