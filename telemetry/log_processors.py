"""What happens to a line of the log before it is rendered: its trace is added, and what must not be told is taken out.

Structlog calls each as `processor(logger, method, event) -> event`; `logs` puts them in order.
"""

from __future__ import annotations

import re
import sys
from collections.abc import MutableMapping
from pathlib import PurePath
from types import CodeType
from typing import Any

from opentelemetry import trace
from structlog.typing import Processor

Event = MutableMapping[str, Any]

REDACTED = "[redacted]"
CUT = 1_024  # characters of any one text
MAX_FRAMES = 40
SECRETS = frozenset(
    {"authorization", "api_key", "apikey", "key", "secret", "password", "token", "cookie", "credentials"}
)
CONTENTS = frozenset(
    {
        *("message", "messages", "text", "arguments", "content", "question", "answer", "prompt"),
        *("document", "documents", "body", "input", "output", "result", "baggage"),
    }
)
_SECRET_VALUE = re.compile(r"(?i)(bearer\s+|\bfb_\w{1,64}?_|\bsk-)[\w.~+/=-]{8,}")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")


def add_trace(_logger: Any, _method: str, event: Event) -> Event:
    """Add the ids of the current span, if there is one."""
    current = trace.get_current_span().get_span_context()
    if current.is_valid:
        event["trace_id"] = trace.format_trace_id(current.trace_id)
        event["span_id"] = trace.format_span_id(current.span_id)
    return event


def first_line_of_asyncio(_logger: Any, _method: str, event: Event) -> Event:
    """Keep the first line of what asyncio says: the others show tasks, with their exceptions' texts."""
    if event["_record"].name == "asyncio":
        event["event"] = event["event"].partition("\n")[0]
    return event


def stack_only(*, capture_content: bool) -> Processor:
    """Return a processor that turns `exc_info` into class, causes and stack; the text only with `capture_content`."""

    def describe(_logger: Any, _method: str, event: Event) -> Event:
        error = _exception(event.pop("exc_info", None))
        if error is not None:
            event["error_type"] = type(error).__qualname__
            event["stack"] = stack_of(error)
            if error.__cause__ is not None:
                event["caused_by"] = type(error.__cause__).__qualname__
            if capture_content:
                event["error_text"] = str(error)
        return event

    return describe


def stack_of(error: BaseException) -> list[str]:
    """Return the frames that `error` went through, outermost first, as `file:line in function`."""
    frames, at = [], error.__traceback__
    while at is not None:
        frames.append(place(at.tb_frame.f_code, at.tb_lineno))
        at = at.tb_next
    return frames[-MAX_FRAMES:]


def place(code: CodeType, line: int) -> str:
    """Return where code is, as `file:line in function`, with the last three parts of the file's path."""
    return f"{'/'.join(PurePath(code.co_filename).parts[-3:])}:{line} in {code.co_name}"


def redactor(*, capture_content: bool) -> Processor:
    """Return a processor that takes out secrets, contents (unless captured) and whatever looks like a key of ours."""
    hidden = SECRETS if capture_content else SECRETS | CONTENTS

    def redact(_logger: Any, _method: str, event: Event) -> Event:
        return {key: REDACTED if key.lower() in hidden else _clean(value, hidden) for key, value in event.items()}

    return redact


def escape_control_characters(_logger: Any, _method: str, event: Event) -> Event:
    """Make control characters visible: on a terminal they could hide or forge a line."""
    return {key: _escaped(value) for key, value in event.items()}


def _exception(exc_info: Any) -> BaseException | None:
    if isinstance(exc_info, BaseException):
        return exc_info
    if isinstance(exc_info, tuple):
        return _exception(exc_info[1])
    return sys.exc_info()[1] if exc_info else None


def _clean(value: Any, hidden: frozenset[str]) -> Any:
    if isinstance(value, str):
        return without_secrets(value[:CUT])
    if isinstance(value, dict):
        return {key: REDACTED if str(key).lower() in hidden else _clean(inner, hidden) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_clean(inner, hidden) for inner in value]
    return value


def without_secrets(text: str) -> str:
    """Return `text` without what looks like a key."""
    folded = text.casefold()  # the expression alone was half of a line's time; nearly no text has one of these
    if "bearer" in folded or "fb_" in folded or "sk-" in folded:
        return _SECRET_VALUE.sub(REDACTED, text)
    return text


def _escaped(value: Any) -> Any:
    if isinstance(value, str):
        return _CONTROL.sub(lambda found: found[0].encode("unicode_escape").decode(), value)
    if isinstance(value, list):
        return [_escaped(inner) for inner in value]
    return value
