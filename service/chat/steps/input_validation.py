"""input.validation: bytes become a typed request, or a 400 or 422 that names what is wrong."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from pydantic import BaseModel, ValidationError

from service.errors import InvalidRequest

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

Shape = TypeVar("Shape", bound=BaseModel)

MALFORMED = 400
FIELD_NAME_LIMIT = 64


def parse(body: bytes, shape: type[Shape]) -> Shape:
    """Return `body` as `shape`; raise InvalidRequest, whose words name the field and never repeat its value."""
    try:
        return shape.model_validate_json(body)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
    if first["type"] == "json_invalid":
        raise InvalidRequest("The body is not valid JSON in UTF-8", status=MALFORMED)
    field = "".join(c for c in ".".join(str(part) for part in first["loc"]) if c.isprintable())[:FIELD_NAME_LIMIT]
    raise InvalidRequest(f"{field or 'body'}: {_words(first)}", field=field or None)


def _words(error: ErrorDetails) -> str:
    """Say what is wrong, in pydantic's words where they cannot hold the value itself."""
    if error["type"] == "extra_forbidden":
        return "unknown field"
    if error["type"] in ("missing", "value_error") or error["type"].startswith(("string_", "bool_", "dict_", "list_")):
        return error["msg"].removeprefix("Value error, ")
    return f"not valid ({error['type']})"
