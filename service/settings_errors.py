"""Says which line of `forebay.toml`, or which variable, is wrong. Called by service/settings.py to refuse a start.

`tomllib` gives no positions, so the file is read a second time, statement by statement.
"""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel, ValidationError

PREFIX = "FOREBAY_"
LISTS = {"tuple_type": "a list; in a variable, written as JSON", "dict_type": "a table; in a variable, written as JSON"}
UNITS = {
    "_ms": "a whole number of milliseconds",
    "_seconds": "a number of seconds",
    "_bytes": "a whole number of bytes",
}

Key = tuple[str | int, ...]


class SettingsError(ValueError):
    """The settings are refused. The text names each file, line and key that is wrong, and repeats no value of them."""


@dataclass(frozen=True, slots=True)
class Issue:
    """One thing that is wrong with the value at `key`."""

    key: Key
    what: str


def key_lines(text: str) -> dict[Key, int]:
    """Return the line, counted from 1, on which each table, array element and key of a TOML text begins."""
    lines: dict[Key, int] = {}
    table: Key = ()
    for line, statement in _statements(text):
        parsed = tomllib.loads(statement)
        if statement.lstrip().startswith("["):
            table = _header(parsed, lines)
            lines.setdefault(table, line)
        else:
            for key in _paths(parsed):
                lines.setdefault((*table, *key), line)
    return lines


def _statements(text: str) -> Iterator[tuple[int, str]]:
    """Yield each header and each assignment with its first line: the shortest runs of lines that are TOML."""
    first, pending = 1, ""
    for number, line in enumerate(text.splitlines(keepends=True), 1):
        if not pending:
            first = number
        pending += line
        try:
            tomllib.loads(pending)
        except tomllib.TOMLDecodeError:
            continue
        yield first, pending
        pending = ""


def _header(parsed: dict[str, Any], lines: Mapping[Key, int]) -> Key:
    """Return the path of the one table in `parsed`; an element of an array is counted on from those in `lines`."""
    path: Key = ()
    value: Any = parsed
    while value:
        name, value = next(iter(value.items()))
        path = (*path, name)
        count = _elements(path, lines)
        if isinstance(value, list):
            return (*path, count)
        if count:
            path = (*path, count - 1)
    return path


def _elements(path: Key, lines: Mapping[Key, int]) -> int:
    return sum(1 for key in lines if key[:-1] == path and isinstance(key[-1], int))


def _paths(value: Any, path: Key = ()) -> Iterator[Key]:
    """Yield the path of everything within a parsed value."""
    if path:
        yield path
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from _paths(inner, (*path, name))
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield from _paths(inner, (*path, index))


def from_validation(error: ValidationError, model: type[BaseModel]) -> list[Issue]:
    """Return pydantic's errors in our words, without the values that were given."""
    details = error.errors(include_url=False, include_context=False, include_input=False)
    return [_issue(detail, model) for detail in details if detail["type"] != "default_factory_not_called"]


def _issue(detail: Any, model: type[BaseModel]) -> Issue:
    key: Key = detail["loc"]
    name = str(key[-1]) if key else ""
    if detail["type"] == "extra_forbidden":
        return Issue(key, _unknown(name, _known(key[:-1], model)))
    what = detail["msg"].removeprefix("Value error, ")
    what = what[:1].lower() + what[1:]
    hints = [LISTS[detail["type"]]] if detail["type"] in LISTS else [UNITS[u] for u in UNITS if name.endswith(u)]
    return Issue(key, f"{what} ({hints[0]})" if hints else what)


def _unknown(name: str, known: Sequence[str]) -> str:
    if f"{name}_env" in known:
        return (
            f"a secret is not written here: name the variable that holds it in {name}_env, or its file in {name}_file"
        )
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    return f"unknown key; did you mean {close[0]}?" if close else f"unknown key; known are {', '.join(known)}"


def _known(key: Key, model: type[BaseModel]) -> list[str]:
    """Return the field names of the model at `key` within `model`."""
    for part in key:
        if field := model.model_fields.get(str(part)):
            candidates = (field.annotation, *get_args(field.annotation))
            model = next((c for c in candidates if isinstance(c, type) and issubclass(c, BaseModel)), model)
    return sorted(model.model_fields)


def refusal(issues: Iterable[Issue], path: Path | None, environ: Mapping[str, str]) -> SettingsError:
    """Return the error that tells all `issues`, each with its variable, or its file and line."""
    lines = key_lines(path.read_text(encoding="utf-8")) if path else {}
    variables = {name.upper() for name in environ}
    told = [f"{_where(issue.key, path, lines, variables)}{dotted(issue.key)}: {issue.what}" for issue in issues]
    return SettingsError("\n".join(told))


def _where(key: Key, path: Path | None, lines: Mapping[Key, int], variables: set[str]) -> str:
    """Return where the value at `key` comes from: the nearest variable or line at or above it."""
    for length in range(len(key), 0, -1):
        variable = PREFIX + "__".join(str(part) for part in key[:length]).upper()
        if variable in variables:
            return f"environment variable {variable}: "
        if key[:length] in lines:
            return f"{path}:{lines[key[:length]]}: "
    return f"{path}: " if path else ""


def dotted(key: Key) -> str:
    """Return `key` as people write it: `providers[0].models`."""
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in key).removeprefix(".")
