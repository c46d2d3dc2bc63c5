"""The body of a chat turn, as `/chat/stream` takes it, and as the input of a job of kind `chat`."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, field_validator

from service.chat.structured import beyond_limits
from service.chat.turn import Ask

SESSION_ID = r"^[A-Za-z0-9._:-]{1,128}$"
SessionId = Annotated[str, StringConstraints(pattern=SESSION_ID)]


class ChatBody(BaseModel):
    """What a client sends. Unknown fields are refused."""

    model_config = ConfigDict(extra="forbid", strict=True, hide_input_in_errors=True)

    session_id: SessionId = Field(description="Chosen by the client; scoped to its tenant and user.")
    message: Annotated[str, StringConstraints(min_length=1, max_length=32_000)]
    model: Annotated[str, StringConstraints(max_length=256)] = ""
    grounding: Literal["preferred", "required"] | None = None
    response_schema: dict[str, Any] | None = None
    background: bool = False

    @field_validator("message")
    @classmethod
    def _storable(cls, message: str) -> str:
        if "\x00" in message:
            raise ValueError("must not contain the character U+0000")
        return message

    @field_validator("response_schema")
    @classmethod
    def _within_limits(cls, schema: dict[str, Any] | None) -> dict[str, Any] | None:
        if schema is not None and (problem := beyond_limits(schema)) is not None:
            raise ValueError(problem)
        return schema

    def ask(self) -> Ask:
        """Return what is asked for."""
        return Ask(
            session_id=self.session_id,
            message=self.message,
            model=self.model,
            grounding=self.grounding or "",
            response_schema=self.response_schema,
            streamed=self.response_schema is None,  # else it is kept until it is whole and valid
            background=self.background,
        )
