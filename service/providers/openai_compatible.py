"""Models behind the OpenAI chat completions API: OpenAI, vLLM, llama.cpp, Ollama, gateways.

One `stream` is one attempt. Always streamed, whatever the client asked for: a stream can be closed, and then the
provider stops. Source: https://platform.openai.com/docs/api-reference/chat (what comes back: openai_chunks).
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Any

import msgspec

from service.ports import ChatMessage, Deltas, Finish, ModelRequest, ToolSpec
from service.providers.failures import malformed
from service.providers.openai_chunks import ChunkReader
from service.providers.rows import ProviderRow
from service.providers.upstream import Answer, Refused, Upstream, at_once

_PATH = "/chat/completions"
_OURS = frozenset({"max_tokens", "max_completion_tokens", "n", "stream_options"})  # never passed on from a client


class OpenAICompatible:
    """A provider's row over HTTP."""

    ready = True

    def __init__(self, row: ProviderRow, upstream: Upstream) -> None:
        """Take the row and its connections, which are closed with this."""
        self.name = row.name
        self._row, self._upstream = row, upstream
        self._asks_for_usage, self._limit_name = True, "max_tokens"  # until a refusal says otherwise

    async def close(self) -> None:
        """Close the connections."""
        await self._upstream.close()

    async def stream(self, request: ModelRequest) -> AsyncGenerator[Deltas, None]:
        """Yield one answer's deltas: Finish as soon as the model ended, then Usage if the server counted.

        Raises:
            ProviderFailure: It refused, broke off, or sent what is no chunk.
        """
        opened = await self._open(request)
        if isinstance(opened, Finish):
            yield (opened,)
            return
        with opened as answer:
            reader = ChunkReader(answer.request_id)
            while not reader.done and (payloads := await answer.events()):
                for said in at_once(reader.read, payloads):
                    yield said
            if not reader.ended:
                raise malformed(answer.request_id)
            if usage := reader.usage():
                yield (usage,)
            await answer.drain()

    async def _open(self, request: ModelRequest) -> Answer | Finish:
        """Send the request, again without what the server turns out not to know; a filtered prompt is an ending."""
        while True:
            body = self._body(request)
            try:
                return await self._upstream.post(_PATH, msgspec.json.encode(body))
            except Refused as refused:
                if refused.failure.provider_code == "content_filter":
                    return Finish("content_filter")
                if not self._learn(refused.body, body):
                    raise refused.failure from None

    def _learn(self, refusal: bytes, sent: dict[str, Any]) -> bool:
        """Take from a refusal what the server does not know; True if that was sent, so that it may work without.

        Older servers refuse `stream_options`; OpenAI's reasoning models want the limit under its newer name.
        """
        if "stream_options" in sent and b"stream_options" in refusal:
            self._asks_for_usage = False
            return True
        if "max_tokens" in sent and b"max_completion_tokens" in refusal:
            self._limit_name = "max_completion_tokens"
            return True
        return False

    def _body(self, request: ModelRequest) -> dict[str, Any]:
        body: dict[str, Any] = {key: value for key, value in request.extra.items() if key not in _OURS}
        body |= {"model": request.model, "messages": [_message(m) for m in request.messages], "stream": True}
        if self._asks_for_usage:
            body["stream_options"] = {"include_usage": True}
        if limit := self._row.output_limit(request.max_output_tokens):
            body[self._limit_name] = limit
        if request.tools and "tools" not in body:  # a client's own are passed on as it wrote them
            body["tools"] = [_tool(tool) for tool in request.tools]
        if request.response_schema is not None:
            schema = {"name": "answer", "schema": request.response_schema}
            body["response_format"] = {"type": "json_schema", "json_schema": schema}
        return body


def _message(message: ChatMessage) -> dict[str, Any]:
    said: dict[str, Any] = {"role": message.role, "content": message.content}
    if message.tool_calls:
        said["tool_calls"] = [
            {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
            for call in message.tool_calls
        ]
    if message.tool_call_id:
        said["tool_call_id"] = message.tool_call_id
    return said


def _tool(tool: ToolSpec) -> dict[str, Any]:
    function = {"name": tool.name, "description": tool.description, "parameters": tool.parameters}
    return {"type": "function", "function": function}
