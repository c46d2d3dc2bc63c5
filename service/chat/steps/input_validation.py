"""input.validation: bytes become a typed request, or a 400 or 422 that names what is wrong."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from pydantic import BaseModel, ValidationError

from service.errors import InvalidRequest, TooLarge

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

Shape = TypeVar("Shape", bound=BaseModel)

MALFORMED = 400
FIELD_NAME_LIMIT = 64
MOST_VALUES = 20_000  # in one body: it is read on the event loop, and 4 MiB of `[],[],…` takes more than a second


def parse(body: bytes, shape: type[Shape]) -> Shape:
    """Return `body` as `shape`.

    Raises:
        InvalidRequest: it is no JSON, or not what is wanted; the words name the field and never repeat its value.
        TooLarge: it holds more values than are read at once.
    """
    if not _is_light(body):
        raise TooLarge(f"The body holds more than {MOST_VALUES} JSON values")
    try:
        return shape.model_validate_json(body)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
    if first["type"] == "json_invalid":
        raise InvalidRequest("The body is not valid JSON in UTF-8", status=MALFORMED)
    field = "".join(c for c in ".".join(str(part) for part in first["loc"]) if c.isprintable())[:FIELD_NAME_LIMIT]
    raise InvalidRequest(f"{field or 'body'}: {_words(first)}", field=field or None)


def _is_light(body: bytes) -> bool:
    """Whether `body` holds at most MOST_VALUES values: each but the first follows a comma or opens a list or object.

    Text may hold as many of these characters as it likes, so where they are many the strings are cut out first. All of
    it runs in C: 4 MiB take 0.4 ms, or 25 ms with the strings cut out.
    """
    if _marks(body) < MOST_VALUES:
        return True
    unescaped = body.replace(rb"\\", b"").replace(rb"\"", b"")
    if unescaped.count(b'"') > 4 * MOST_VALUES:  # a name and a text for each value
        return False
    return _marks(b"".join(unescaped.split(b'"')[::2])) < MOST_VALUES


def _marks(text: bytes) -> int:
    return text.count(b",") + text.count(b"[") + text.count(b"{")


def _words(error: ErrorDetails) -> str:
    """Say what is wrong, in pydantic's words where they cannot hold the value itself."""
    if error["type"] == "extra_forbidden":
        return "unknown field"
    if error["type"] in ("missing", "value_error") or error["type"].startswith(("string_", "bool_", "dict_", "list_")):
        return error["msg"].removeprefix("Value error, ")
    return f"not valid ({error['type']})"
