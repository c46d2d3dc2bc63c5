"""Models behind Anthropic's Messages API.

One `stream` is one attempt, as in openai_compatible; what differs is the shape of prompts and events.
Source: https://docs.anthropic.com/en/api/messages and /en/docs/build-with-claude/streaming.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from typing import Any

import msgspec

from service.ports import ChatMessage, Deltas, ModelRequest
from service.providers.anthropic_events import EventReader
from service.providers.failures import UNREADABLE, malformed
from service.providers.prompt import wanted_schema
from service.providers.rows import ProviderRow
from service.providers.upstream import Refused, Upstream, at_once

VERSION = "2023-06-01"
_PATH = "/messages"
_MAX_TOKENS = 4_096  # the API insists on a limit; every model allows this one
_SAME_NAME = frozenset({"temperature", "top_p", "top_k"})  # of what clients of the OpenAI format may send


class Anthropic:
    """A provider's row over HTTP."""

    ready = True

    def __init__(self, row: ProviderRow, upstream: Upstream) -> None:
        """Take the row and its connections, which are closed with this."""
        self.name = row.name
        self._row, self._upstream = row, upstream

    async def close(self) -> None:
        """Close the connections."""
        await self._upstream.close()

    async def stream(self, request: ModelRequest) -> AsyncGenerator[Deltas, None]:
        """Yield one answer's deltas: Finish as soon as the model ended, then Usage.

        Raises:
            ProviderFailure: It refused, broke off, or sent what is no event.
        """
        try:
            with await self._upstream.post(_PATH, msgspec.json.encode(self._body(request))) as answer:
                reader = EventReader(answer.request_id)
                while not reader.done and (payloads := await answer.events()):
                    for said in at_once(reader.read, payloads):
                        yield said
                if not reader.ended:
                    raise malformed(answer.request_id)
                yield (reader.usage(),)
                await answer.drain()
        except Refused as refused:
            raise refused.failure from None

    def _body(self, request: ModelRequest) -> dict[str, Any]:
        body: dict[str, Any] = {key: value for key, value in request.extra.items() if key in _SAME_NAME}
        body |= {
            "model": request.model,
            "stream": True,
            "max_tokens": self._row.output_limit(request.max_output_tokens) or _MAX_TOKENS,
            "messages": _turns(request.messages),
        }
        if system := "\n\n".join(m.content for m in request.messages if m.role == "system"):
            body["system"] = system
        if stop := request.extra.get("stop"):
            body["stop_sequences"] = [stop] if isinstance(stop, str) else stop
        if request.tools:
            body["tools"] = [
                {"name": tool.name, "description": tool.description, "input_schema": tool.parameters}
                for tool in request.tools
            ]
            body |= _tool_choice(request.extra)
        if (schema := wanted_schema(request)) is not None:
            body["output_config"] = {"format": {"type": "json_schema", "schema": schema}}
        return body


def _tool_choice(extra: Mapping[str, Any]) -> dict[str, Any]:
    """Return how tools may be chosen, as a client of the OpenAI format said it, in this API's words."""
    choice: dict[str, Any] = {}
    match extra.get("tool_choice"):
        case "auto" | "none" as said:
            choice = {"type": said}
        case "required":
            choice = {"type": "any"}
        case {"type": "function", "function": {"name": str(name)}}:
            choice = {"type": "tool", "name": name}
    if extra.get("parallel_tool_calls") is False and choice.get("type") != "none":
        choice = {"type": "auto", **choice, "disable_parallel_tool_use": True}
    return {"tool_choice": choice} if choice else {}


def _turns(messages: tuple[ChatMessage, ...]) -> list[dict[str, Any]]:
    """Return the conversation as alternating turns of content blocks: results of tools belong to the user's turn."""
    turns: list[dict[str, Any]] = []
    for message in messages:
        if message.role == "system":
            continue
        role = "assistant" if message.role == "assistant" else "user"
        if not turns or turns[-1]["role"] != role:
            turns.append({"role": role, "content": []})
        turns[-1]["content"] += _blocks(message)
    return [turn for turn in turns if turn["content"]]


def _blocks(message: ChatMessage) -> list[dict[str, Any]]:
    if message.role == "tool":
        return [{"type": "tool_result", "tool_use_id": message.tool_call_id, "content": message.content}]
    text = [{"type": "text", "text": message.content}] if message.content.strip() else []
    return text + [
        {"type": "tool_use", "id": call.id, "name": call.name, "input": _arguments(call.arguments)}
        for call in message.tool_calls
    ]


def _arguments(text: str) -> Any:
    """Return what a model wrote as a call's arguments, {} where that was no JSON object: the API takes objects only."""
    try:
        return msgspec.json.decode(text, type=dict[str, Any])
    except UNREADABLE:
        return {}
