"""The documents, cases and policies of the demo: an invented product-safety office and its case C-1042.

The documents go into the index at start; the cases and policies are the register that the tools look things up in. The
composition root hands both on, so that neither the index nor a tool knows of the other.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Any

from service.ports import Document

HERE = Path(__file__).parent
TENANT = "demo"


def documents() -> tuple[Document, ...]:
    """Return every document of the corpus, by id."""
    return tuple(_document(file) for file in sorted((HERE / "documents").glob("*.md")))


@cache
def cases() -> Mapping[str, Mapping[str, Any]]:
    """Return the case register by case id: status, counts, risk score, injuries, dates (ISO 8601)."""
    return _register("cases.json", "case_id")


@cache
def policies() -> Mapping[str, Mapping[str, Any]]:
    """Return the Office's policies by policy id; ESC-1 has its thresholds as numbers under `reasons`."""
    return _register("policies.json", "policy_id")


def _register(file: str, key: str) -> Mapping[str, Mapping[str, Any]]:
    entries = json.loads((HERE / file).read_text(encoding="utf-8"))
    return MappingProxyType({entry[key]: MappingProxyType(entry) for entry in entries})


def _document(file: Path) -> Document:
    """Read `---`, lines of `key: value`, `---`, text. The file's name is the id."""
    _, head, text = file.read_text(encoding="utf-8").split("---\n", 2)
    facts = dict(line.split(": ", 1) for line in head.splitlines())
    labels = frozenset(facts["labels"].split(", "))
    return Document(file.stem, facts["title"], " ".join(text.split()), TENANT, labels)
