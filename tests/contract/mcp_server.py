"""A real MCP server, by the SDK's own server side, whose tools work, fail, hang and die. Run as a file by tests.

`mcp_server.py stdio` or `mcp_server.py http PORT`: over HTTP it says its port in a line once it listens.
"""

import asyncio
import os
import signal
import socket
import sys

import uvicorn
from mcp.server.lowlevel.server import Server
from mcp.server.stdio import stdio_server
from mcp_types import CallToolResult, ListToolsResult, TextContent, Tool

KEY = "FILES_KEY"  # a variable: over HTTP, nobody is let in without its value
PATH = {"type": "object", "properties": {"path": {"type": "string"}}, "required": ["path"]}
DEEP = {"type": "object", "properties": {"path": {"$ref": "https://elsewhere.invalid/schema.json"}}}
SCHEMAS = dict.fromkeys(("read_file", "fails", "hangs", "stands_still", "dies", "delete_file"), PATH) | {"wild": DEEP}


def said(text, **more):
    return CallToolResult(content=[TextContent(type="text", text=text)], **more)


async def tools(context, params):
    return ListToolsResult(tools=[Tool(name=name, input_schema=schema) for name, schema in SCHEMAS.items()])


async def call(context, params):
    path = (params.arguments or {})["path"]
    if params.name == "hangs":
        await asyncio.Event().wait()
    if params.name == "stands_still":
        os.kill(os.getpid(), signal.SIGSTOP)
    if params.name == "dies":
        os._exit(3)
    if params.name == "fails":
        return said(f"there is no {path}", is_error=True)
    sys.stderr.write(f"asked for {path}\n")  # as servers do: it must be nowhere in our log
    key = "with" if KEY in os.environ else "without"
    return said(f"contents of {path}, by process {os.getpid()}, {key} a key")


def guarded(app):
    """Let in only who has the key, if there is one."""
    wanted = f"Bearer {os.environ[KEY]}".encode()

    async def guard(scope, receive, send):
        if scope["type"] != "http" or (b"authorization", wanted) in scope["headers"]:
            await app(scope, receive, send)
            return
        await send({"type": "http.response.start", "status": 401, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    return guard


server = Server("files", on_list_tools=tools, on_call_tool=call)


async def over_stdio():
    async with stdio_server() as (read, write):
        await server.run(read, write, server.create_initialization_options())


async def over_http(port):
    listening = socket.create_server(("127.0.0.1", port))
    sys.stdout.write(f"{listening.getsockname()[1]}\n")
    sys.stdout.flush()
    app = server.streamable_http_app()
    app = guarded(app) if KEY in os.environ else app
    await uvicorn.Server(uvicorn.Config(app, log_level="critical")).serve(sockets=[listening])


if __name__ == "__main__":
    asyncio.run(over_http(int(sys.argv[2])) if sys.argv[1] == "http" else over_stdio())
