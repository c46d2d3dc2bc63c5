"""case_lookup: what the register says of a case. Reads only."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from service.calls import Tool, ToolUse
from service.ports import ToolSpec

Register = Mapping[str, Mapping[str, Mapping[str, Any]]]
"""Entries by tenant and id: nobody finds another tenant's."""

SPEC = ToolSpec(
    "case_lookup",
    "Look up a case in the register: status, risk score, units on the market, incidents, injuries, deadlines.",
    {
        "type": "object",
        "properties": {"case_id": {"type": "string", "pattern": "^C-[0-9]{1,6}$", "description": "Such as C-1042."}},
        "required": ["case_id"],
        "additionalProperties": False,
    },
)


def case_lookup(cases: Register) -> Tool:
    """Return the tool over a register."""

    async def run(use: ToolUse) -> Any:
        case_id = use.arguments["case_id"]
        case = cases.get(use.tenant, {}).get(case_id)
        return {"case_id": case_id, "found": False} if case is None else dict(case)

    return Tool(SPEC, run, shows=frozenset({"case_id"}), resource="case_id")
