"""The search attributes of a job's workflow, by which an operator finds it: made once for each namespace."""

from __future__ import annotations

from typing import TYPE_CHECKING

from temporalio.api.enums.v1 import IndexedValueType
from temporalio.api.operatorservice.v1 import AddSearchAttributesRequest, ListSearchAttributesRequest
from temporalio.service import RPCError, RPCStatusCode

from service.jobs.temporal.target import Unusable
from service.jobs.temporal.workflow import KIND, STATUS, TENANT

if TYPE_CHECKING:
    from collections.abc import Mapping

    from temporalio.client import Client

WANTED = {key.name: IndexedValueType.INDEXED_VALUE_TYPE_KEYWORD for key in (KIND, TENANT, STATUS)}
COMMAND = "temporal operator search-attribute create " + " ".join(f"--name {one} --type Keyword" for one in WANTED)


async def missing(client: Client) -> Mapping[str, IndexedValueType.ValueType]:
    """Return those that the namespace does not have, with their types; raise RPCError."""
    there = await client.operator_service.list_search_attributes(
        ListSearchAttributesRequest(namespace=client.namespace)
    )
    return {name: kind for name, kind in WANTED.items() if name not in there.custom_attributes}


async def register(client: Client) -> None:
    """Add those that the namespace does not have.

    Raises:
        RPCError: it does not answer.
        Unusable: it lets us add none; the text says what an operator has to run.
    """
    if not (wanted := await missing(client)):
        return
    request = AddSearchAttributesRequest(namespace=client.namespace, search_attributes=wanted)
    try:
        await client.operator_service.add_search_attributes(request)
    except RPCError as error:
        if error.status is not RPCStatusCode.ALREADY_EXISTS:  # somebody else was at it too
            raise Unusable(f"search attributes are missing and may not be made by us: {COMMAND}") from None
