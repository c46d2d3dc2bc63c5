"""One connection to an MCP server, over the official SDK: what tools it has, and a call of one.

For mcp.py only, which imports it in a thread and only where the settings name a server: the SDK takes a second to load.
Source: https://modelcontextprotocol.io/specification; versions are negotiated, 2026-07-28 first.
"""

from __future__ import annotations

import sys
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from mcp.client.client import Client
from mcp.client.stdio import StdioServerParameters
from mcp.client.streamable_http import streamable_http_client
from mcp.shared._httpx_utils import create_mcp_http_client  # with the timeouts that MCP asks for; exported nowhere
from mcp.shared.exceptions import MCPError
from mcp_types import (
    INVALID_PARAMS,
    METHOD_NOT_FOUND,
    CallToolRequest,
    CallToolRequestParams,
    CallToolResult,
    Implementation,
    PaginatedRequestParams,
    TextContent,
)

from service.errors import ToolFailed
from service.ports import ToolSpec

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping
    from types import TracebackType

    from service.tools.mcp import Address

CHILD = Path(__file__).with_name("mcp_child.py")
PAGES = 20  # of a listing: one that never ends is cut
LONGEST_DESCRIPTION = 2_000  # characters: every model is told all of them with every turn
REFUSED = (INVALID_PARAMS, METHOD_NOT_FOUND)  # by the protocol, before the tool was entered


class Link:
    """An async context manager: entered and left by one task, used by any.

    Args:
        address: a child of this process, which ends with it; or a URL, spoken to over streamable HTTP.
    """

    def __init__(self, address: Address) -> None:
        us = Implementation(name="forebay", version=version("forebay"))
        self._client = Client(_way_to(address), client_info=us, cache=None)

    async def __aenter__(self) -> Self:
        """Connect and agree on a version; raise whatever the SDK raises."""
        await self._client.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Disconnect: a child gets two seconds to end, then SIGTERM, then SIGKILL."""
        await self._client.__aexit__(kind, error, trace)

    async def tools(self) -> tuple[ToolSpec, ...]:
        """Return every tool of the server, by its own description; raise whatever the SDK raises."""
        found: list[ToolSpec] = []
        cursor: str | None = None
        for _ in range(PAGES):
            page = await self._client.session.list_tools(params=PaginatedRequestParams(cursor=cursor))
            found += [
                ToolSpec(tool.name, (tool.description or "")[:LONGEST_DESCRIPTION], tool.input_schema)
                for tool in page.tools
            ]
            cursor = page.next_cursor
            if not cursor:
                break
        return tuple(found)

    async def call(self, name: str, arguments: Mapping[str, Any]) -> tuple[Any, bool]:
        """Call a tool; return the JSON value that it gave, and whether that tells of an error.

        Not by the SDK's `call_tool`: that checks results against the server's own schema within the event loop, where
        a pattern could hold up every other request. The trace goes along in `_meta` (the SDK does that).

        Raises:
            ToolFailed: the server refused the call, so that nothing has happened.
            ConnectionError: nobody knows what came of it.
        """
        request = CallToolRequest(params=CallToolRequestParams(name=name, arguments=dict(arguments)))
        try:
            result = await self._client.session.send_request(request, CallToolResult)
        except MCPError as error:
            if error.code in REFUSED:
                raise ToolFailed("The tool's server refused the call", said=error.message) from None
            raise ConnectionError("the tool's server gave no result") from error
        except (ValueError, RuntimeError, OSError) as error:  # no result by any version of the protocol
            raise ConnectionError("the tool's server gave no result that can be read") from error
        return _value(result), result.is_error


def _way_to(address: Address) -> AbstractAsyncContextManager[Any] | StdioServerParameters:
    if not address.url:
        arguments = ["-I", str(CHILD), *address.command]
        return StdioServerParameters(command=sys.executable, args=arguments, env=dict(address.environ))
    return _over_http(address.url, {"Authorization": f"Bearer {address.key}"} if address.key else {})


@asynccontextmanager
async def _over_http(url: str, headers: dict[str, str]) -> AsyncIterator[Any]:
    async with create_mcp_http_client(headers) as http, streamable_http_client(url, http_client=http) as streams:
        yield streams


def _value(result: CallToolResult) -> Any:
    """Return what a model can read of a result: its structure, else its text; of other contents only the kind."""
    if result.structured_content is not None:
        return result.structured_content
    return "\n".join(one.text if isinstance(one, TextContent) else f"[{one.type}]" for one in result.content)
