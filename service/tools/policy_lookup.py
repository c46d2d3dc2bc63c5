"""policy_lookup: the Office's policies that bear on a topic. Reads only."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from service.calls import Tool, ToolUse
from service.ports import ToolSpec

if TYPE_CHECKING:
    from collections.abc import Mapping

    from service.tools.case_lookup import Register

MOST = 2  # policies in one answer
_WORD = re.compile(r"[a-z0-9-]{4,}")  # shorter ones say nothing of a topic

SPEC = ToolSpec(
    "policy_lookup",
    "Find the policies that bear on a topic, such as when an escalation review is needed, with their thresholds.",
    {
        "type": "object",
        "properties": {"topic": {"type": "string", "minLength": 1, "maxLength": 2000}},
        "required": ["topic"],
        "additionalProperties": False,
    },
)


def policy_lookup(policies: Register) -> Tool:
    """Return the tool over a register."""

    async def run(use: ToolUse) -> Any:
        topic = set(_WORD.findall(use.arguments["topic"].lower()))
        found = sorted(policies.get(use.tenant, {}).values(), key=lambda policy: -_nearness(policy, topic))
        return {"policies": [dict(policy) for policy in found[:MOST] if _nearness(policy, topic)]}

    return Tool(SPEC, run, shows=frozenset({"topic"}))


def _nearness(policy: Mapping[str, Any], topic: set[str]) -> int:
    """Count the topic's words in the policy; those of its title count twice."""
    title, rule = str(policy["title"]).lower(), str(policy["rule"]).lower()
    return 2 * len(topic & set(_WORD.findall(title))) + len(topic & set(_WORD.findall(rule)))
