"""Does a JSON text meet a JSON Schema? A pure function, and the child process in which it runs.

Run as a script by `schemas`, by its path, since neither the schema nor the text is ours: a pattern with nested
repetitions takes a regular expression for years, and only a process can be stopped in the middle of one.
Source: https://json-schema.org/draft/2020-12, as the `jsonschema` package implements it.
"""

from __future__ import annotations

import json
import os
import queue
import sys
import threading
from collections.abc import Mapping
from typing import Any

from jsonschema import Draft202012Validator
from jsonschema.exceptions import SchemaError, best_match
from referencing import Registry

LONGEST_PROBLEM = 400  # characters: the model reads it
UNFOLLOWED = "cannot be followed"
_NOTHING: Registry[Any] = Registry()  # retrieves no schema from anywhere


def problem_of(schema: Mapping[str, Any], text: str) -> str | None:
    """Return what is wrong with the JSON `text`, None if it is valid. Formats are not checked, as the standard allows.

    The words may quote the text: they are for whoever wrote it.
    """
    try:
        value = json.loads(text, parse_constant=_refuse)
    except (ValueError, RecursionError):
        return "it is not JSON"
    try:
        error = best_match(Draft202012Validator(schema, registry=_NOTHING).iter_errors(value))
    except Exception:  # noqa: BLE001 -- a reference to nowhere, or to what is no schema, a limit beyond all numbers, …
        return f"its schema {UNFOLLOWED}"
    if error is None:
        return None
    return f"at {error.json_path}: {error.message}"[:LONGEST_PROBLEM]


def _refuse(constant: str) -> Any:
    raise ValueError(constant)  # Python reads NaN, JSON knows none


def problem_of_schema(schema: Mapping[str, Any]) -> str | None:
    """Return what is wrong with the schema itself, without quoting it; None if nothing is."""
    try:
        Draft202012Validator.check_schema(schema)
    except SchemaError as error:
        return f"at {error.json_path}: not valid ({error.validator})"[:LONGEST_PROBLEM]
    except Exception:  # noqa: BLE001 -- too deep, a pattern that nothing compiles, …
        return UNFOLLOWED
    return None


# --- the child process --------------------------------------------------------------------------------------------


def serve() -> None:
    """Answer lines of JSON, `[schema, text]` or `[schema, null]`, with lines of JSON, until the input ends.

    The input ends when the parent closes it or dies, by SIGKILL too. A thread of its own waits for that, so the process
    ends even in the middle of a pattern.
    """
    lines: queue.SimpleQueue[str] = queue.SimpleQueue()
    threading.Thread(target=_read, args=(lines,), daemon=True).start()
    while True:
        schema, text = json.loads(lines.get())
        problem = problem_of_schema(schema) if text is None else problem_of(schema, text)
        sys.stdout.write(json.dumps(problem) + "\n")
        sys.stdout.flush()


def _read(lines: queue.SimpleQueue[str]) -> None:
    for line in sys.stdin:
        lines.put(line)
    os._exit(0)  # nothing to save, and the other thread may be matching


if __name__ == "__main__":
    serve()
