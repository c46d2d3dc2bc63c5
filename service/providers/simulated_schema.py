"""Makes an instance of a JSON Schema: what the simulated model answers if one is wanted, and a tool's arguments.

Bounded whatever the schema says, since it is the client's: every value is paid for out of one budget. A `pattern`
cannot be met in general: an identifier that the question names is tried. Source: https://json-schema.org/draft/2020-12.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterator, Mapping
from itertools import count, cycle
from typing import Any

_IDENTIFIER = re.compile(r"\b[A-Z]{1,8}-\d{1,12}\b")
_MAX_DEPTH, _MAX_ITEMS, _MAX_CHARACTERS = 24, 100, 32_000
_BUDGET, _PER_VALUE = 64_000, 16  # characters of the whole, and what any value costs beside its name and text
_GAP = 0.001  # from a limit that is not allowed itself
_OPTIONAL_DEPTH = 4  # deeper than that only what is required: a schema may refer to itself
_FORMATS = {
    "date": "2026-01-15",
    "time": "09:30:00Z",
    "date-time": "2026-01-15T09:30:00Z",
    "duration": "P1D",
    "email": "case.team@example.org",
    "hostname": "example.org",
    "ipv4": "192.0.2.1",
    "ipv6": "2001:db8::1",
    "uri": "https://example.org/",
    "uuid": "6f1c0f0e-3d5b-4a37-9a51-0d7c8a6b2e10",
}

Schema = Mapping[str, Any]


def instance(schema: Any, question: str, texts: list[str], *, optional: bool = True) -> Any:
    """Return a JSON value that `schema` accepts; None where none can be made of it.

    Args:
        schema: A JSON Schema, without remote references.
        question: Where identifiers are looked for.
        texts: What strings are made of, in turn; at least one.
        optional: Whether properties that are not required are given too.
    """
    try:
        return _Maker(schema, question, texts, optional=optional).make(schema, "", 0)
    except (ArithmeticError, AttributeError, TypeError, ValueError):
        return None  # a reference leads to what is no schema, or a limit is beyond all numbers


class _Maker:
    def __init__(self, root: Any, question: str, texts: list[str], *, optional: bool) -> None:
        self._root, self._optional = root, optional
        self._identifiers: list[str] = _IDENTIFIER.findall(question)
        self._texts: Iterator[str] = cycle(texts)
        self._numbers = count(1)
        self._left = _BUDGET
        self._makers: Mapping[str, Callable[[Schema, str, int], Any]] = {
            "object": self._object,
            "array": self._array,
            "number": self._number,
            "integer": self._number,
            "boolean": lambda *_: True,
            "null": lambda *_: None,
        }

    def make(self, schema: Any, name: str, depth: int) -> Any:
        self._left -= _PER_VALUE + len(name)
        if self._left < 0 or depth > _MAX_DEPTH or schema is False:
            return None
        schema = self._whole(schema if isinstance(schema, Mapping) else {})
        if "const" in schema:
            return self._given(schema["const"])
        if schema.get("enum"):
            return self._given(schema["enum"][0])
        return self._makers.get(_type(schema), self._string)(schema, name, depth)

    def _given(self, value: Any) -> Any:
        """Return a value of the schema's own, as long as there is room: it may stand in thousands of places."""
        self._left -= len(json.dumps(value))
        return value if self._left >= 0 else None

    def _whole(self, schema: Schema) -> Schema:
        """Return the schema with its reference, its `allOf` and its first alternative merged in."""
        merged: dict[str, Any] = {}
        pending, seen = [schema], 0
        while pending and (seen := seen + 1) < _MAX_DEPTH:
            part = pending.pop(0)
            if "$ref" in part:
                pending.append(self._referred(part["$ref"]))
            pending += [inner for inner in part.get("allOf", ()) if isinstance(inner, Mapping)]
            for alternatives in ("anyOf", "oneOf"):
                pending += [inner for inner in part.get(alternatives, ())[:1] if isinstance(inner, Mapping)]
            properties = {**merged.get("properties", {}), **part.get("properties", {})}
            required = [*merged.get("required", ()), *part.get("required", ())]
            merged = {**part, **merged, "properties": properties, "required": required}
        return merged

    def _referred(self, reference: Any) -> Schema:
        """Return what a reference within the schema points to (RFC 6901); anything else allows everything."""
        value = self._root
        for part in str(reference).removeprefix("#").split("/")[1:]:
            key = part.replace("~1", "/").replace("~0", "~")
            value = value.get(key, {}) if isinstance(value, Mapping) else {}
        return value if isinstance(value, Mapping) else {}

    def _object(self, schema: Schema, name: str, depth: int) -> dict[str, Any]:
        del name
        known, required = schema["properties"], schema["required"]
        optional = self._optional and depth < _OPTIONAL_DEPTH
        names = dict.fromkeys([*(known if optional else ()), *required])
        return {wanted: self.make(known.get(wanted, {}), wanted, depth + 1) for wanted in names}

    def _array(self, schema: Schema, name: str, depth: int) -> list[Any]:
        first = [self.make(item, name, depth + 1) for item in schema.get("prefixItems", ())[:_MAX_ITEMS]]
        wanted = min(max(schema.get("minItems", 1), len(first)), schema.get("maxItems", _MAX_ITEMS), _MAX_ITEMS)
        rest = [self.make(schema.get("items", {}), name, depth + 1) for _ in range(int(wanted) - len(first))]
        return first + rest

    def _number(self, schema: Schema, name: str, depth: int) -> int | float:
        """Return another number each time, as long as the limits allow it."""
        del name, depth
        whole = schema.get("type") == "integer"
        step = schema.get("multipleOf", 1 if whole else 0)
        gap = step or _GAP
        lowest = max(schema.get("minimum", -math.inf), schema.get("exclusiveMinimum", -math.inf) + gap)
        highest = min(schema.get("maximum", math.inf), schema.get("exclusiveMaximum", math.inf) - gap)
        value = min(max(next(self._numbers) * (step or 1), lowest), highest)
        if step:
            value = (math.ceil if value == lowest else math.floor)(value / step) * step
        return int(value) if whole else value

    def _string(self, schema: Schema, name: str, depth: int) -> str:
        del depth
        if known := _FORMATS.get(schema.get("format", "")):
            return known
        if self._identifiers and ("pattern" in schema or name.lower().endswith("id")):
            initial = name[:1].upper()
            return next((one for one in self._identifiers if one.startswith(initial)), self._identifiers[0])
        room = min(_MAX_CHARACTERS, self._left)
        text: str = next(self._texts)[: int(min(schema.get("maxLength", room), room))]
        text = text.ljust(int(min(schema.get("minLength", 0), room)), ".")
        self._left -= len(text)
        return text


def _type(schema: Schema) -> str:
    """Return the first type allowed; where none is named, the one that the other keywords are about."""
    named = schema.get("type")
    if isinstance(named, list):
        return next((kind for kind in named if kind != "null"), "null")
    if isinstance(named, str):
        return named
    if schema.get("properties") or schema.get("required"):
        return "object"
    if "items" in schema or "prefixItems" in schema:
        return "array"
    return "number" if {"minimum", "maximum", "multipleOf"} & schema.keys() else "string"
