"""Reads a directory of Cedar policies and refuses what would not work: called once, at start, by `CedarPolicy`.

Cedar skips a rule that fails while it is evaluated, a `forbid` too. So nothing is left to evaluation that can be known
before: each policy is parsed and type-checked against the schema, and the message names the file and the policy.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import cedarpy

HERE = Path(__file__).parent
SHIPPED = HERE / "policies"
SCHEMA = HERE / "schema.cedarschema"


class PolicyError(ValueError):
    """The policies cannot be used; the message says which and why, for whoever starts the service."""


@dataclass(frozen=True, slots=True)
class Rules:
    """Parsed once and shared by every check."""

    policies: cedarpy.PolicySet
    schema: cedarpy.Schema


def load(directory: Path | None = None) -> Rules:
    """Return the policies of all `*.cedar` files of `directory`, by default those that ship.

    Raises:
        PolicyError: there is none, or one does not parse or does not fit the schema.
    """
    directory = directory or SHIPPED
    files = sorted(directory.glob("*.cedar"))
    if not files:
        raise PolicyError(f"{directory} holds no *.cedar file: without a policy everything would be denied")
    schema = cedarpy.Schema.from_str(SCHEMA.read_text(encoding="utf-8"))
    texts = [_validated(file, schema) for file in files]
    return Rules(cedarpy.PolicySet.from_str("\n".join(texts)), schema)


def _validated(file: Path, schema: cedarpy.Schema) -> str:
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise PolicyError(f"{file} cannot be read: {error}") from error
    result = cedarpy.validate_policies(text, schema)
    if not result.validation_passed:
        names = result.id_annotations_by_policy_id
        faults = [f"{names.get(fault.policy_id, fault.policy_id)} {fault.error}".strip() for fault in result.errors]
        raise PolicyError(f"{file}: {'; '.join(faults)}")
    return text
