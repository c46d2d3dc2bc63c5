"""Which tools there are. To add one: its file, and a row here."""

from __future__ import annotations

from typing import TYPE_CHECKING

from service.tools.case_lookup import case_lookup
from service.tools.open_escalation_review import open_escalation_review
from service.tools.policy_lookup import policy_lookup

if TYPE_CHECKING:
    from service.calls import Tool
    from service.tools.case_lookup import Register
    from service.tools.open_escalation_review import Reviews

NAMES = ("case_lookup", "policy_lookup", "open_escalation_review")


def shipped(cases: Register, policies: Register, reviews: Reviews) -> dict[str, Tool]:
    """Return the tools that ship, by name."""
    tools = (case_lookup(cases), policy_lookup(policies), open_escalation_review(cases, reviews))
    return {tool.spec.name: tool for tool in tools}
