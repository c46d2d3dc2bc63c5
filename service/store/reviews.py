"""Statements on the register of escalation reviews: what the tool `open_escalation_review` writes to, and reads back.

One open review per case, and one row for a key: the same request made twice changes nothing.
"""

from __future__ import annotations

from collections.abc import Sequence

from service.store.statements import Operation
from service.store.values import Review

_OPEN = """
INSERT INTO escalation_reviews (tenant_id, idempotency_key, review_id, case_id, reasons, opened_by, opened_at)
VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING
"""

_BY_KEY = """
SELECT review_id, case_id, reasons, opened_by, opened_at FROM escalation_reviews
WHERE tenant_id = ? AND idempotency_key = ?
"""


def open_review(tenant: str, key: str, review: Review) -> Operation[Review | None]:
    """Open a review, or return the one that this key opened before; None if another one is open on the case."""
    reasons = " ".join(review.reasons)
    values = (tenant, key, review.review_id, review.case_id, reasons, review.opened_by, review.opened_at)
    yield _OPEN, values
    return (yield from review_of(tenant, key))


def review_of(tenant: str, key: str) -> Operation[Review | None]:
    """Return the review that this key opened, None for none."""
    rows: Sequence[Sequence[str]] = yield _BY_KEY, (tenant, key)
    for review_id, case_id, reasons, opened_by, opened_at in rows:
        return Review(review_id, case_id, tuple(reasons.split()), opened_by, float(opened_at))
    return None
