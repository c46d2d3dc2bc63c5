"""open_escalation_review: refers a case to an escalation review. A side effect, so a human decides on each call first.

At most once for one key, and one open review per case: the register of reviews holds both, whatever happens to us.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from service.calls import Tool, ToolUse
from service.errors import ToolFailed
from service.ports import ToolSpec

if TYPE_CHECKING:
    from collections.abc import Sequence

    from service.tools.case_lookup import Register

SPEC = ToolSpec(
    "open_escalation_review",
    "Refer a case to an escalation review under policy ESC-1. An approver decides first. The case's status stays as it "
    "is. Call it only when the user asks for it.",
    {
        "type": "object",
        "properties": {
            "case_id": {"type": "string", "pattern": "^C-[0-9]{1,6}$", "description": "Such as C-1042."},
            "reasons": {
                "type": "array",
                "items": {"enum": ["a", "b", "c", "d"]},
                "minItems": 1,
                "maxItems": 4,
                "description": "The letters of the reasons under ESC-1 that hold.",
            },
            "note": {"type": "string", "maxLength": 2000, "description": "For the panel."},
        },
        "required": ["case_id", "reasons"],
        "additionalProperties": False,
    },
)


class Opened(Protocol):
    """A review as the register has it. `opened_at` in Unix seconds."""

    @property
    def review_id(self) -> str:
        """Its id."""
        ...

    @property
    def case_id(self) -> str:
        """Its case."""
        ...

    @property
    def reasons(self) -> tuple[str, ...]:
        """Letters of ESC-1."""
        ...


class Reviews(Protocol):
    """The register of reviews."""

    async def open_review(self, tenant: str, key: str, case_id: str, reasons: Sequence[str], who: str) -> Opened | None:
        """Open one, or return the one that `key` opened; None if another is open on the case."""
        ...

    async def review(self, tenant: str, key: str) -> Opened | None:
        """Return the one that `key` opened, None for none."""
        ...


def open_escalation_review(cases: Register, reviews: Reviews) -> Tool:
    """Return the tool over the register of cases and that of reviews."""

    async def run(use: ToolUse) -> Any:
        case_id = use.arguments["case_id"]
        if case_id not in cases.get(use.tenant, {}):
            raise ToolFailed("There is no such case")
        reasons = sorted(set(use.arguments["reasons"]))
        opened = await reviews.open_review(use.tenant, use.key, case_id, reasons, use.user)
        if opened is None:
            raise ToolFailed("Another review is open on this case")
        return _told(opened)

    async def lookup(use: ToolUse) -> Any:
        opened = await reviews.review(use.tenant, use.key)
        return None if opened is None else _told(opened)

    return Tool(
        SPEC,
        run,
        side_effects=True,
        approval=True,
        idempotent=True,
        concurrency=5,
        shows=frozenset({"case_id", "reasons"}),
        resource="case_id",
        lookup=lookup,
    )


def _told(opened: Opened) -> dict[str, Any]:
    return {"review_id": opened.review_id, "case_id": opened.case_id, "reasons": list(opened.reasons)}
