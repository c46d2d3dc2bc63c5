"""retrieval.query: passages within the scope, each one checked again by the policy, and what else to look at."""

from __future__ import annotations

from typing import TYPE_CHECKING

from service.errors import RetrievalFailed

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


async def suggest(
    question: str, principal: Principal, scope: Scope, source: Retriever, policy: Policy, limit: int
) -> Sequence[Document] | None:
    """Return at most `limit` documents that may be of interest too; None if their source has failed.

    Nothing of an answer rests on them: unlike evidence, their failure is a value.
    """
    try:
        return await find(question, principal, scope, source, policy, limit)
    except RetrievalFailed:
        return None
