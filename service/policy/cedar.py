"""`ports.Policy` on Cedar: what a principal may do, see and use. Asked by the flow's policy step and by the routes.

Deny by default, three times over: no permit is a deny; a decision other than Allow is a deny (a request that Cedar
cannot read gives `NoDecision`); and an Allow with any error beside it is a deny, because the rule that failed may have
been a forbid. A decision depends on the question alone, so it is remembered: a check costs about 100 µs the first time
and 2 µs after; a scope, which is a dozen of them, less than 1 µs.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any
from urllib.parse import quote

import cedarpy

from service.errors import Forbidden
from service.policy.loading import Rules, load
from service.ports import Document, Principal, Scope

LABELS = frozenset({"public", "internal", "restricted", "sealed"})
"""The labels that the shipped policies and the demo corpus know. No shipped policy permits `sealed`."""

REMEMBERED = 8_192
"""Decisions kept, least recently used out first: about 1 KiB each."""


@dataclass(frozen=True, slots=True)
class ToolFacts:
    """What a policy may know of a tool."""

    name: str
    side_effects: bool


@dataclass(frozen=True, slots=True)
class _Question:
    """May this caller do this with that? Hashable, and all that the answer depends on."""

    tenant: str
    user: str
    roles: frozenset[str]
    action: str
    resource_type: str
    resource_id: str
    resource_tenant: str
    side_effects: bool | None = None
    labels: frozenset[str] | None = None
    context: frozenset[tuple[str, str]] = frozenset()


class CedarPolicy:
    """Authorisation by the policies of one directory.

    Args:
        path: directory of `*.cedar` files; None takes those that ship.
        tools: every tool that is configured: the universe from which a scope is taken.
        labels: every label that a document may carry. One with another label is seen by nobody.

    Raises:
        PolicyError: the directory's policies cannot be used.
    """

    def __init__(
        self, path: Path | None = None, *, tools: Iterable[ToolFacts] = (), labels: Iterable[str] = LABELS
    ) -> None:
        self.labels = frozenset(labels)
        self._tools = {tool.name: tool for tool in tools}
        rules = load(path)
        self._permits = lru_cache(REMEMBERED)(lambda question: _ask(rules, question))
        self._scope = lru_cache(REMEMBERED)(self._ask_for_scope)  # of a dozen questions, each of them remembered too

    async def scope(self, principal: Principal, action: str = "chat") -> Scope:
        """Return the labels and tools that `principal` may see and use; raise Forbidden if `action` is not allowed."""
        scope = self._scope(principal.tenant, principal.user, principal.roles, action)
        if scope is None:
            raise Forbidden
        return scope

    def _ask_for_scope(self, tenant: str, user: str, roles: frozenset[str], action: str) -> Scope | None:
        """Return what a caller may see and use, None if the action is not allowed."""
        principal = Principal(tenant, user, roles, "")
        if not self.allows(principal, action):
            return None
        return Scope(
            tenant=principal.tenant,
            labels=frozenset(label for label in self.labels if self._may_read(principal, label, frozenset({label}))),
            tools=frozenset(name for name in self._tools if self.may_call(principal, name)),
        )

    def allows(self, principal: Principal, action: str, *, tenant: str | None = None, **context: str) -> bool:
        """Tell whether `principal` may do `action` in `tenant`, by default its own.

        Args:
            principal: who asks.
            action: `chat`, `phase:read`, `job:create` (context `kind`) or `approval:decide` (context `tool` and
                `requested_by`, a user's name).
            tenant: whose thing it is about.
            context: what the schema declares for the action, all of it and nothing else.
        """
        place = principal.tenant if tenant is None else tenant
        return self._permits(_question(principal, action, "Tenant", place, place, context=frozenset(context.items())))

    def may_read(self, principal: Principal, document: Document) -> bool:
        """Tell whether this one document may be read."""
        return document.labels <= self.labels and self._may_read(
            principal, document.id, document.labels, document.tenant
        )

    def may_call(self, principal: Principal, tool: str, resource: str = "") -> bool:
        """Tell whether this tool may be called on `resource`, or at all; one that is not configured may not."""
        facts = self._tools.get(tool)
        if facts is None:
            return False
        about = frozenset({("resource", resource)} if resource else ())
        side_effects = facts.side_effects
        return self._permits(
            _question(principal, "tool:call", "Tool", tool, principal.tenant, side_effects=side_effects, context=about)
        )

    def _may_read(self, principal: Principal, name: str, labels: frozenset[str], tenant: str | None = None) -> bool:
        owner = principal.tenant if tenant is None else tenant
        return self._permits(_question(principal, "document:read", "Document", name, owner, labels=labels))


def _question(principal: Principal, action: str, kind: str, name: str, tenant: str, **facts: Any) -> _Question:
    return _Question(principal.tenant, principal.user, principal.roles, action, kind, name, tenant, **facts)


def _ask(rules: Rules, question: _Question) -> bool:
    caller, thing = _caller(question), _thing(question)
    result = cedarpy.is_authorized(
        {
            "principal": caller["uid"],
            "action": {"type": "Action", "id": question.action},
            "resource": thing["uid"],
            "context": dict(question.context),
        },
        rules.policies,
        json.dumps([caller, thing]),
        rules.schema,
    )
    return result.decision == cedarpy.Decision.Allow and not result.diagnostics.errors


def _caller(question: _Question) -> Mapping[str, Any]:
    # Escaped, so that no tenant and user can be written as another tenant's user.
    name = f"{quote(question.tenant, safe='')}/{quote(question.user, safe='')}"
    return {
        "uid": {"type": "User", "id": name},
        "attrs": {"tenant": question.tenant, "name": question.user},
        "parents": [{"type": "Role", "id": role} for role in sorted(question.roles)],
    }


def _thing(question: _Question) -> Mapping[str, Any]:
    attributes: dict[str, Any] = {"tenant": question.resource_tenant}
    if question.labels is not None:
        attributes["labels"] = sorted(question.labels)
    if question.side_effects is not None:
        attributes |= {"name": question.resource_id, "side_effects": question.side_effects}
    return {"uid": {"type": question.resource_type, "id": question.resource_id}, "attrs": attributes, "parents": []}
