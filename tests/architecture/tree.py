"""The project's own Python as syntax trees, for tests of how it is written."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGES = ("bus", "swarm", "coordinator", "deploy")


@cache
def modules(*folders: str) -> dict[str, ast.Module]:
    """Every module under `folders` by its path from the root, such as ``bus/bus.py``."""
    found = {
        path.relative_to(ROOT).as_posix(): ast.parse(path.read_text("utf-8"))
        for folder in folders
        for path in sorted((ROOT / folder).rglob("*.py"))
    }
    assert found, f"there is no Python under {folders}"
    return found


def texts(module: ast.AST) -> Iterator[tuple[int, str]]:
    """Line and text of each string that is not a docstring. An f-string is one, with ``{}`` for its fields."""
    inside = {
        id(part) for node in ast.walk(module) if isinstance(node, ast.JoinedStr) for part in node.values
    }
    for node in ast.walk(module):
        inside |= _docstring(node)
        if isinstance(node, ast.JoinedStr):
            yield node.lineno, "".join(_part(value) for value in node.values)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in inside:
            yield node.lineno, node.value


def _docstring(node: ast.AST) -> set[int]:
    """The strings of a body that are nobody's value: docstrings, also those of attributes."""
    body = getattr(node, "body", None)
    if not isinstance(body, list):
        return set()
    return {
        id(line.value) for line in body if isinstance(line, ast.Expr) and isinstance(line.value, ast.Constant)
    }


def _part(value: ast.expr) -> str:
    return str(value.value) if isinstance(value, ast.Constant) else "{}"


def test_a_docstring_is_no_text_and_an_f_string_is_one() -> None:
    module = ast.parse('"""doc"""\nX = 1\n"""of X"""\ndef f():\n    "doc"\n    return f"a.{X}.b" + "c"\n')
    assert sorted(texts(module)) == [(6, "a.{}.b"), (6, "c")]


@cache
def names_of_tests(folder: str) -> frozenset[str]:
    """The names of all tests in a folder under tests/: which file has them may change."""
    return frozenset(
        node.name
        for file in (ROOT / "tests" / folder).rglob("test_*.py")
        for node in ast.parse(file.read_text()).body
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    )
