"""Files and functions fit the eye, and nothing is left half done."""

from __future__ import annotations

import ast
import io
import tokenize

from tests.architecture.source import PRODUCT, sources

LONGEST_FILE = 300
LONGEST_FUNCTION = 50
HALF_DONE = ("TODO", "FIXME", "XXX", "HACK")


def test_no_file_has_more_than_300_lines():
    lengths = {source.name: len(source.text.splitlines()) for source in sources(*PRODUCT, "tests")}
    assert {name: length for name, length in lengths.items() if length > LONGEST_FILE} == {}


def test_no_function_has_more_than_50_lines():
    found = [
        source.at(node, f"{node.name} has {length} lines")
        for source in sources(*PRODUCT)
        for node in ast.walk(source.tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and (length := node.end_lineno - node.lineno + 1) > LONGEST_FUNCTION
    ]
    assert not found, "\n".join(found)


def test_nothing_is_left_half_done():
    found = [
        source.at(node, node.id)
        for source in sources(*PRODUCT, "tests")
        for node in ast.walk(source.tree)
        if isinstance(node, ast.Name) and node.id == "NotImplementedError"
    ]
    for source in sources(*PRODUCT, "tests"):
        for token in tokenize.generate_tokens(io.StringIO(source.text).readline):
            if token.type == tokenize.COMMENT and any(word in token.string for word in HALF_DONE):
                found.append(f"{source.name}:{token.start[0]}: {token.string}")
    assert not found, "\n".join(found)


def test_every_module_says_why_it_exists():
    found = [source.name for source in sources(*PRODUCT) if source.text.strip() and not ast.get_docstring(source.tree)]
    assert not found, "\n".join(found)
