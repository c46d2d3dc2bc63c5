"""retrieval.query: passages within the scope, each one checked again by the policy."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from service.ports import Document, Policy, Principal, Retriever, Scope


async def find(
    question: str, principal: Principal, scope: Scope, retriever: Retriever, policy: Policy, limit: int
) -> Sequence[Document]:
    """Return at most `limit` documents that this principal may read, best first; raise RetrievalFailed.

    The scope filters within the query; asking the policy for each document found is the second lock on the same door.
    """
    found = await retriever.query(question, scope, limit)
    return [document for document in found if policy.may_read(principal, document)]
