"""The project's own files, parsed once for all tests of this folder."""

from __future__ import annotations

import ast
from dataclasses import dataclass
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[2]
PRODUCT = ("service", "telemetry", "dashboards")
NOT_WRITTEN_BY_HAND = ("service/store/migrations/versions/", "dashboards/generated/")


@dataclass(frozen=True, eq=False)
class Source:
    """One Python file: `name` is its path below the root, with slashes."""

    name: str
    text: str
    tree: ast.Module

    def line(self, node: ast.AST) -> str:
        return self.text.splitlines()[node.lineno - 1]

    def at(self, node: ast.AST, what: str) -> str:
        return f"{self.name}:{node.lineno}: {what}"


@cache
def sources(*folders: str) -> tuple[Source, ...]:
    """Return the Python files below `folders`, in order."""
    paths = sorted(path for folder in folders for path in (ROOT / folder).rglob("*.py"))
    names = [name for path in paths if "/." not in (name := path.relative_to(ROOT).as_posix())]  # somebody's installed
    texts = [(name, (ROOT / name).read_text(encoding="utf-8")) for name in names]
    return tuple(
        Source(name, text, ast.parse(text, name)) for name, text in texts if not name.startswith(NOT_WRITTEN_BY_HAND)
    )


def dotted(node: ast.AST) -> str:
    """Return `a.b.c` for a chain of attributes, "" for anything else."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute) and (owner := dotted(node.value)):
        return f"{owner}.{node.attr}"
    return ""


def full_names(tree: ast.Module) -> dict[str, str]:
    """Return what imported names stand for: `from time import monotonic as m` gives m → time.monotonic."""
    found = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.asname or alias.name: alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found |= {alias.asname or alias.name: f"{node.module}.{alias.name}" for alias in node.names}
    return found


def called(node: ast.Call, names: dict[str, str]) -> str:
    """Return the full name of what is called, as far as imports tell."""
    first, dot, rest = dotted(node.func).partition(".")
    return names.get(first, first) + dot + rest
