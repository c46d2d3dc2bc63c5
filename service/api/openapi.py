"""/openapi.json: what FastAPI knows of the routes, and what it cannot: keys, refusals, the events of a stream.

Routes say it where they are declared, with `takes`, `streams` and `refusals`; `describe` puts the document together.
"""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from fastapi.openapi.utils import get_openapi
from pydantic.json_schema import models_json_schema

from service.errors import Code

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from fastapi import FastAPI
    from pydantic import BaseModel

    from service.chat.events import Event

Json = dict[str, Any]

COMPONENTS = "#/components/schemas/"
ANYWHERE = (400, 401, 429, 431, 500, 503)
WITH_BODY = (408, 413, 422)
BY_THE_SERVER = {400, 408, 413, 431}  # maybe refused before a route was known: a problem even under /v1
RETRY_LATER = {429, 503}
DESCRIPTION = """\
Streams of typed events, each request within its budgets, each refusal a true status with `application/problem+json` \
(RFC 9457; under `/v1` an error in OpenAI's shape). Every response carries `X-Request-Id`, the id of its trace.

Clients ignore events and fields that they do not know. Exactly one terminal event, `message_completed` or `error`, \
ends a stream that the client stayed for."""

KEY = {"type": "http", "scheme": "bearer", "bearerFormat": "fb_<id>_<secret>"}
MEANS = {
    400: "Not understood: no JSON, no such value, not a Host of ours.",
    401: "No key, or one that is unknown, expired or revoked.",
    403: "Not allowed by policy.",
    404: "Not there, or not the caller's: the two look the same.",
    408: "The request did not arrive in time.",
    409: "In conflict with what already happened.",
    413: "The body is over its limit.",
    422: "A field is not valid; `detail` names it.",
    429: "A limit of the caller's is reached.",
    431: "The headers are over their limit.",
    500: "A bug of ours.",
    502: "The model's provider, or a tool, failed.",
    503: "No place is free, this instance drains, or a dependency is down.",
    504: "A phase used up its budget before the stream began.",
}
_PROBLEM: Json = {
    "type": "object",
    "description": "Why a request was refused (RFC 9457).",
    "properties": {
        "type": {"type": "string"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "code": {"type": "string", "enum": [str(code) for code in Code]},
        "detail": {"type": "string"},
        "trace_id": {"type": ["string", "null"]},
    },
    "required": ["type", "title", "status", "code", "detail"],
}
_OPENAI_ERROR: Json = {
    "type": "object",
    "description": "Why a request was refused, as OpenAI's clients read it.",
    "properties": {
        "error": {
            "type": "object",
            "properties": {
                "message": {"type": "string"},
                "type": {"type": "string"},
                "param": {"type": ["string", "null"]},
                "code": {"type": "string", "enum": [str(code) for code in Code]},
            },
            "required": ["message", "type", "code"],
        }
    },
    "required": ["error"],
}
_REQUEST_ID = {"X-Request-Id": {"description": "The id of the trace: 32 hex digits.", "schema": {"type": "string"}}}
_RETRY_AFTER = {"Retry-After": {"description": "Seconds, at least 1.", "schema": {"type": "integer", "minimum": 1}}}


def refusals(*statuses: int) -> dict[int | str, Json]:
    """Return the `responses` of a route that may refuse with `statuses`, beside those that any route may."""
    return {status: {"description": MEANS[status]} for status in statuses}


def takes(body: type[BaseModel]) -> Json:
    """Return the `openapi_extra` of a route that reads its body by itself, as a `body`."""
    schema = body.model_json_schema(ref_template=COMPONENTS + "{model}")
    wrapped = {"$ref": COMPONENTS + body.__name__, "$defs": {body.__name__: schema}}
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": wrapped}}}}


def streams(name: str, events: Sequence[type[Event]]) -> Json:
    """Return the response that is a stream of `events`; `name` is what one of them is called as a component."""
    _, found = models_json_schema([(event, "serialization") for event in events], ref_template=COMPONENTS + "{model}")
    one = {"description": "One server-sent event.", "oneOf": [_sent(event) for event in events]}
    item = {"$ref": COMPONENTS + name, "$defs": {**found["$defs"], name: one}}
    return {
        "description": "A stream of server-sent events.",
        "content": {"text/event-stream": {"itemSchema": item}},
    }


def _sent(event: type[Event]) -> Json:
    """Return how an event looks on the wire, as OpenAPI describes server-sent events: its data is JSON in a string."""
    data = {
        "type": "string",
        "contentMediaType": "application/json",
        "contentSchema": {"$ref": COMPONENTS + event.__name__},
    }
    return {
        "title": event.type,
        "type": "object",
        "properties": {"id": {"type": "string"}, "event": {"const": event.type}, "data": data},
        "required": ["event", "data"],
    }


def describe(app: FastAPI) -> Json:
    """Return the whole document, made once: it becomes `app.openapi`."""
    if app.openapi_schema is None:
        document = get_openapi(title=app.title, version=app.version, description=DESCRIPTION, routes=app.routes)
        components = document.setdefault("components", {})
        components.setdefault("schemas", {}).update({"Problem": _PROBLEM, "OpenAIError": _OPENAI_ERROR})
        components["securitySchemes"] = {"key": KEY}
        document["security"] = [{"key": []}]
        for path, operations in document["paths"].items():
            for operation in operations.values():
                _complete(path, operation)
        _hoist(document, components["schemas"])
        for unused in ("HTTPValidationError", "ValidationError"):
            components["schemas"].pop(unused, None)  # FastAPI's own shape of a 422, which nobody here is sent
        app.openapi_schema = document
    return app.openapi_schema


def _complete(path: str, operation: Json) -> None:
    """Add to an operation what holds for all of them."""
    responses = operation["responses"]
    for status in (*ANYWHERE, *(WITH_BODY if "requestBody" in operation else ())):
        responses.setdefault(str(status), {"description": MEANS[status]})
    operation["responses"] = dict(sorted(responses.items()))
    for status, response in operation["responses"].items():
        response["headers"] = {**_REQUEST_ID, **(_RETRY_AFTER if int(status) in RETRY_LATER else {})}
        if int(status) >= HTTPStatus.BAD_REQUEST:
            response["content"] = dict(_shapes(path, int(status)))


def _shapes(path: str, status: int) -> Iterable[tuple[str, Json]]:
    if path.startswith("/v1/"):
        yield "application/json", {"schema": {"$ref": COMPONENTS + "OpenAIError"}}
    if not path.startswith("/v1/") or status in BY_THE_SERVER:
        yield "application/problem+json", {"schema": {"$ref": COMPONENTS + "Problem"}}


def _hoist(value: Any, schemas: Json) -> None:
    """Move every `$defs` below `value` to the components, where all references point."""
    if isinstance(value, list):
        for inner in value:
            _hoist(inner, schemas)
    elif isinstance(value, dict):
        for name, schema in value.pop("$defs", {}).items():
            if name not in schemas:
                schemas[name] = schema
                _hoist(schema, schemas)
        for inner in list(value.values()):
            _hoist(inner, schemas)
