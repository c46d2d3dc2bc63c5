"""`calls.Schemas` in virtual time: the same checks as schemas.py, in the caller's own task."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from service.runtime import schema_check


class InlineSchemas:
    """The same checks in the caller's own task, for the simulation: no process, and so no limit."""

    async def problem(self, schema: Mapping[str, Any], text: str) -> str | None:
        """Return what is wrong with the JSON `text`; None if it is valid."""
        return schema_check.problem_of(schema, text)

    async def problem_of_schema(self, schema: Mapping[str, Any]) -> str | None:
        """Return what is wrong with a schema itself; None if nothing is."""
        return schema_check.problem_of_schema(schema)
