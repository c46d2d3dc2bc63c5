"""OpenAI's wire format as far as it is spoken here: what a request may hold, what a chunk and an answer look like.

Source: https://platform.openai.com/docs/api-reference/chat. Fields that we do not know are ignored, as clients expect.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from service.errors import Code, InvalidRequest
from service.ports import ChatMessage, ToolCall

if TYPE_CHECKING:
    from service.errors import ForebayError

# What a provider gets as the client wrote it. The rest is ours to say (model, messages, stream, limits) or unknown.
PASSED_ON = frozenset(
    {
        "temperature", "top_p", "stop", "seed", "presence_penalty", "frequency_penalty", "logit_bias", "user",
        "response_format", "tools", "tool_choice", "parallel_tool_calls", "reasoning_effort", "metadata", "store",
        "service_tier", "prediction", "verbosity",
    }
)  # fmt: skip
_TYPES = {
    Code.UNAUTHENTICATED: "authentication_error",
    Code.FORBIDDEN: "permission_error",
    Code.NOT_FOUND: "not_found_error",
    Code.RATE_LIMITED: "rate_limit_error",
}
SERVER_ERROR = 500


class FunctionCall(BaseModel):
    """A function that the model asked for; `arguments` is JSON text."""

    name: str
    arguments: str = "{}"


class AskedCall(BaseModel):
    """A tool call in the history."""

    id: str
    function: FunctionCall


class Part(BaseModel):
    """A part of a message's content; only text is understood."""

    type: str
    text: str = ""


class InputMessage(BaseModel):
    """One message of the history."""

    role: Literal["system", "developer", "user", "assistant", "tool", "function"]
    content: str | list[Part] | None = None
    tool_calls: list[AskedCall] = Field(default_factory=list)
    tool_call_id: str = ""

    def plain(self) -> ChatMessage:
        """Return it as we know messages; raise InvalidRequest for content other than text."""
        role: Any = {"developer": "system", "function": "tool"}.get(self.role, self.role)
        calls = tuple(ToolCall(call.id, call.function.name, call.function.arguments) for call in self.tool_calls)
        return ChatMessage(role, self._text(), calls, self.tool_call_id)

    def _text(self) -> str:
        if self.content is None or isinstance(self.content, str):
            return self.content or ""
        if any(part.type not in ("text", "input_text") for part in self.content):
            raise InvalidRequest("messages: only text is understood as content", status=400)
        return "".join(part.text for part in self.content)


class StreamOptions(BaseModel):
    """`stream_options`."""

    include_usage: bool = False


class ForebayOptions(BaseModel):
    """What only Forebay knows: `forebay: {"retrieval": true}`."""

    retrieval: bool | None = None


class CompletionBody(BaseModel):
    """The body of POST /v1/chat/completions."""

    model_config = ConfigDict(extra="allow", hide_input_in_errors=True)

    model: Annotated[str, StringConstraints(max_length=256)] = ""
    messages: Annotated[list[InputMessage], Field(min_length=1, max_length=2_000)]
    stream: bool | None = False
    stream_options: StreamOptions | None = None
    n: int | None = None
    max_tokens: Annotated[int, Field(ge=1)] | None = None
    max_completion_tokens: Annotated[int, Field(ge=1)] | None = None
    forebay: ForebayOptions | None = None

    def passed_on(self) -> dict[str, Any]:
        """Return what the provider gets as it is."""
        return {key: value for key, value in (self.model_extra or {}).items() if key in PASSED_ON and value is not None}


def error_body(error: ForebayError) -> dict[str, Any]:
    """Return an error in OpenAI's shape."""
    kind = _TYPES.get(error.code, "server_error" if error.http_status >= SERVER_ERROR else "invalid_request_error")
    return {"error": {"message": error.detail, "type": kind, "param": error.field, "code": str(error.code)}}
