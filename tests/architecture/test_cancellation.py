"""A cancellation is never swallowed: who catches it raises it again, or says on that line why not."""

from __future__ import annotations

import ast

import pytest

from tests.architecture.source import PRODUCT, Source, dotted, sources

TOO_WIDE = {"CancelledError", "BaseException"}
REASON = "# cancellation: "


def swallowed(source: Source):
    """Yield the places of `source` that catch a cancellation without raising it and without a reason."""
    for node in ast.walk(source.tree):
        if (_drops_it(node) or _suppresses_it(node)) and REASON not in source.line(node):
            yield source.at(node, source.line(node).strip())


def _drops_it(node):
    return isinstance(node, ast.ExceptHandler) and _catches_it(node.type) and not _raises(node.body)


def _suppresses_it(node):
    return isinstance(node, ast.Call) and dotted(node.func).endswith("suppress") and any(map(_is_it, node.args))


def _catches_it(kind):
    return kind is None or any(map(_is_it, kind.elts if isinstance(kind, ast.Tuple) else [kind]))


def _is_it(kind):
    return dotted(kind).rpartition(".")[2] in TOO_WIDE


def _raises(body):
    return any(isinstance(node, ast.Raise) for statement in body for node in ast.walk(statement))


def test_nobody_swallows_a_cancellation():
    found = [place for source in sources(*PRODUCT) for place in swallowed(source)]
    assert not found, "\n".join(found)


@pytest.mark.parametrize(
    ("text", "caught"),
    [
        ("try: f()\nexcept asyncio.CancelledError:\n  pass", True),
        ("try: f()\nexcept (OSError, BaseException):\n  pass", True),
        ("try: f()\nexcept:\n  pass", True),
        ("with contextlib.suppress(CancelledError): f()", True),
        ("try: f()\nexcept BaseException:\n  g()\n  raise", False),
        ("try: f()\nexcept Exception:\n  pass", False),
        ("try: f()\nexcept BaseException:  # cancellation: the thread has no task\n  pass", False),
    ],
)
def test_the_check_sees_what_it_should(text, caught):
    assert bool(list(swallowed(Source("x.py", text, ast.parse(text))))) == caught
