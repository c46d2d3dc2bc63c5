"""Puts a prompt together: what the system says, what was found, what was said before, what is asked; cut to fit.

Pure functions. The documents stand in the user's message and not in the system's: they are somebody's words, and have
no say over the system's. The simulated model reads the question back with `question_of`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from html import escape
from math import ceil
from typing import Any

from service.ports import ChatMessage, Document, ModelRequest

Count = Callable[[str], int]

MESSAGE_TOKENS = 5  # what a chat template puts around one message: role and separators
_BYTES_PER_TOKEN = 3.5  # English has about 4 with the usual vocabularies, code and other languages fewer
_TAG = re.compile(r"<(?=[\s/]*documents?\b)", re.IGNORECASE)
_OPEN, _CLOSE = "<documents>\n", "</documents>\n\n"
_UNLIMITED = 1 << 40
_FOR_DOCUMENTS = 0.75  # of what system and question leave; the rest is for the history


def estimate_tokens(text: str) -> int:
    """Return about how many tokens `text` is: an estimate from its length in bytes.

    Against SmolLM2's own count it is 1.2 times too high for English, right for Markdown with tables, 0.8 for German
    and, since that vocabulary is an English one, 0.55 for Japanese.
    """
    return ceil(len(text.encode("utf-8", "replace")) / _BYTES_PER_TOKEN)


def assemble(
    system: str,
    documents: Sequence[Document],
    history: Sequence[ChatMessage],
    question: str,
    *,
    context_tokens: int | None = None,
    count: Count = estimate_tokens,
) -> tuple[ChatMessage, ...]:
    """Return the messages of a prompt of at most `context_tokens`.

    The system's words come first, then the newest of the history, then the documents and the question in one message:
    a prefix that stays the same from turn to turn can be cached by the provider. What does not fit is cut: the oldest
    of the history, the last of the documents, and only then the end of the question or of the system's words.

    Args:
        system: What the model is told of its task.
        documents: Best first; the n-th is shown with the number n, from 1, by which answers cite it.
        history: Oldest first.
        question: What the user asks.
        context_tokens: The most tokens, by `count`; None for no limit.
        count: Tokens of a text. Two texts joined must not count more than the two apart.
    """
    limit = _UNLIMITED if context_tokens is None else context_tokens
    instructions = cut(system, limit // 2 - MESSAGE_TOKENS, count)
    left = limit - (_size(instructions, count) if instructions else 0) - MESSAGE_TOKENS
    asked = cut(question, left, count)
    left -= count(asked)
    found = _documents(documents, int(left * _FOR_DOCUMENTS) if history else left, count)
    left -= count(found)
    messages = [ChatMessage("system", instructions)] if instructions else []
    messages += _newest(history, left, count)
    messages.append(ChatMessage("user", found + asked))
    return tuple(messages)


def refit(
    messages: Sequence[ChatMessage],
    documents: Sequence[Document],
    context_tokens: int | None,
    *,
    count: Count = estimate_tokens,
) -> tuple[ChatMessage, ...]:
    """Return a prompt that was put together for another model, cut to `context_tokens` in the order of `assemble`.

    What follows the question, calls of tools and their results, is kept whole: the answer goes on from there.
    """
    asked = max((place for place, message in enumerate(messages) if message.role == "user"), default=-1)
    if context_tokens is None or asked < 0 or sum(_size(m.content, count) for m in messages) <= context_tokens:
        return tuple(messages)
    content, begun = messages[asked].content, messages[asked + 1 :]
    question = question_of(content)
    system, before = ("", messages[:asked])
    if messages[0].role == "system":
        system, before = messages[0].content, messages[1:asked]
    left = max(0, context_tokens - sum(_size(m.content, count) for m in begun))
    found = () if question == content else documents
    return (*assemble(system, found, before, question, context_tokens=left, count=count), *begun)


def wanted_schema(request: ModelRequest) -> Mapping[str, Any] | None:
    """Return the JSON Schema that the answer is to follow: ours, or one that came in OpenAI's `response_format`."""
    match request.extra.get("response_format"):
        case {"type": "json_schema", "json_schema": {"schema": dict(schema)}} if request.response_schema is None:
            return schema
    return request.response_schema


def question_of(message: str) -> str:
    """Return what the user asked, from a message that `assemble` made, without the documents before it."""
    return message.rpartition(_CLOSE)[2] if message.startswith(_OPEN) else message


def cut(text: str, limit: int, count: Count) -> str:
    """Return the longest beginning of `text` of at most `limit` tokens: "" if there is none."""
    if count(text) <= limit:
        return text
    low, high = 0, len(text)
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if count(text[:middle]) <= limit else (low, middle - 1)
    return text[:low]


def render(number: int, document: Document) -> str:
    """Return a document between its delimiters, none of which its title or text can close or open."""
    title = escape(" ".join(document.title.split()), quote=True)
    return f'<document number="{number}" title="{title}">\n{_harmless(document.text.strip())}\n</document>\n'


def _harmless(text: str) -> str:
    return _TAG.sub("&lt;", text)


def _documents(documents: Sequence[Document], limit: int, count: Count) -> str:
    """Return as many documents as fit, whole ones, in their order; of the first its beginning at least."""
    shown: list[str] = []
    left = limit - count(_OPEN) - count(_CLOSE)
    for number, document in enumerate(documents, 1):
        text = render(number, document)
        if count(text) > left:
            break
        shown.append(text)
        left -= count(text)
    if not shown and documents and (beginning := _beginning(documents[0], left, count)):
        shown.append(beginning)
    return f"{_OPEN}{''.join(shown)}{_CLOSE}" if shown else ""


def _beginning(document: Document, limit: int, count: Count) -> str:
    """Return the first document cut to fit: an answer can rest on the beginning of a passage, not on nothing."""
    frame = render(1, Document(document.id, document.title, "", document.tenant, document.labels))
    text = cut(_harmless(document.text.strip()), limit - count(frame), count)
    return frame.replace("\n\n</document>", f"\n{text}\n</document>") if text else ""


def _newest(history: Sequence[ChatMessage], limit: int, count: Count) -> list[ChatMessage]:
    """Return the newest messages that fit, oldest first, beginning with a user's: models want it so."""
    kept: list[ChatMessage] = []
    for message in reversed(history):
        limit -= _size(message.content, count) + sum(count(call.arguments) for call in message.tool_calls)
        if limit < 0:
            break
        kept.append(message)
    while kept and kept[-1].role != "user":
        kept.pop()
    return kept[::-1]


def _size(content: str, count: Count) -> int:
    return count(content) + MESSAGE_TOKENS
