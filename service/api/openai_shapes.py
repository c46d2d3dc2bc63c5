"""What a request in OpenAI's wire format may hold, and what an error in it looks like.

Source: https://platform.openai.com/docs/api-reference/chat. Fields that we do not know are ignored, as clients expect.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from service.errors import Code, InvalidRequest
from service.ports import ChatMessage, ToolCall, ToolSpec

if TYPE_CHECKING:
    from service.errors import ForebayError

# What a provider gets as the client wrote it. The rest is ours to say (model, messages, stream, limits) or unknown.
PASSED_ON = frozenset(
    {
        "temperature", "top_p", "stop", "seed", "presence_penalty", "frequency_penalty", "logit_bias", "user",
        "response_format", "tools", "tool_choice", "parallel_tool_calls", "reasoning_effort", "metadata", "store",
        "service_tier", "prediction", "verbosity", "safety_identifier", "prompt_cache_key",
    }
)  # fmt: skip
_TYPES = {
    Code.UNAUTHENTICATED: "authentication_error",
    Code.FORBIDDEN: "permission_error",
    Code.NOT_FOUND: "not_found_error",
    Code.RATE_LIMITED: "rate_limit_error",
}
SERVER_ERROR = 500
MALFORMED = 400
Element = TypeVar("Element")
Many = Annotated[list[Element], Field(fail_fast=True)]  # one error is told: thousands would first be put together
_TEXTS = {"text": "text", "input_text": "text", "refusal": "refusal"}  # kinds of content that are text, and where


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
    refusal: str = ""


class InputMessage(BaseModel):
    """One message of the history."""

    role: Literal["system", "developer", "user", "assistant", "tool", "function"]
    content: str | Many[Part] | None = None
    tool_calls: Many[AskedCall] | None = None
    tool_call_id: str = ""

    def plain(self, place: int) -> ChatMessage:
        """Return it as we know messages; `place` is where it stands. Raise InvalidRequest for other than text."""
        role: Any = {"developer": "system", "function": "tool"}.get(self.role, self.role)
        calls = tuple(ToolCall(call.id, call.function.name, call.function.arguments) for call in self.tool_calls or ())
        return ChatMessage(role, self._text(place), calls, self.tool_call_id)

    def _text(self, place: int) -> str:
        if self.content is None or isinstance(self.content, str):
            return self.content or ""
        for number, part in enumerate(self.content):
            if part.type not in _TEXTS:
                field = f"messages.{place}.content.{number}"
                raise InvalidRequest(f"{field}: only text is understood here", status=MALFORMED, field=field)
        return "".join(getattr(part, _TEXTS[part.type]) for part in self.content)


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
    messages: Annotated[list[InputMessage], Field(min_length=1, max_length=2_000, fail_fast=True)]
    stream: bool | None = False
    stream_options: StreamOptions | None = None
    n: int | None = None
    max_tokens: Annotated[int, Field(ge=1)] | None = None
    max_completion_tokens: Annotated[int, Field(ge=1)] | None = None
    forebay: ForebayOptions | None = None

    def passed_on(self) -> dict[str, Any]:
        """Return what the provider gets as it is."""
        return {key: value for key, value in (self.model_extra or {}).items() if key in PASSED_ON and value is not None}

    def tools(self) -> tuple[ToolSpec, ...]:
        """Return the client's functions as we know tools, for providers who do not speak this format."""
        given = (self.model_extra or {}).get("tools")
        functions = (
            [tool.get("function") for tool in given if isinstance(tool, dict)] if isinstance(given, list) else []
        )
        return tuple(
            ToolSpec(
                function["name"], str(function.get("description") or ""), function.get("parameters") or NO_ARGUMENTS
            )
            for function in functions
            if isinstance(function, dict) and isinstance(function.get("name"), str)
        )


NO_ARGUMENTS = {"type": "object", "properties": {}}


def error_body(error: ForebayError) -> dict[str, Any]:
    """Return an error in OpenAI's shape."""
    return error_shape(error.detail, error.code, error.http_status, error.field)


def error_shape(message: str, code: str, status: int, param: str | None = None) -> dict[str, Any]:
    """Return what is told of an error: OpenAI's `type` goes by the code, or else by the HTTP status."""
    kind = _TYPES.get(Code(code), "server_error" if status >= SERVER_ERROR else "invalid_request_error")
    return {"error": {"message": message, "type": kind, "param": param, "code": str(code)}}
