"""docs/faults.md: all 24 faults have their row, every test it names exists, and what is open is said."""

from __future__ import annotations

import ast
import re
from functools import cache

import pytest

from tests.architecture.tree import ROOT

FAULTS = 24
TEXT = (ROOT / "docs/faults.md").read_text()
ROWS = {int(n): held for n, held in re.findall(r"^\| (\d+) \|.*\| (.*) \|$", TEXT, re.MULTILINE)}
NAMED = sorted(set(re.findall(r"`(\w+)::(test_\w+)`", TEXT)))


@cache
def _tests_of(folder: str) -> frozenset[str]:
    return frozenset(
        node.name
        for file in (ROOT / "tests" / folder).rglob("test_*.py")
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_")
    )


def test_every_fault_has_its_row_in_order() -> None:
    assert list(ROWS) == list(range(1, FAULTS + 1))


@pytest.mark.parametrize("fault", range(1, FAULTS + 1))
def test_a_fault_is_held_by_a_test_or_said_to_be_open(fault: int) -> None:
    held = ROWS[fault]
    assert re.search(r"`\w+::test_\w+`", held) or "not yet" in held, (
        f"fault {fault} has no test and says nothing"
    )


@pytest.mark.parametrize(("folder", "name"), NAMED)
def test_a_test_that_is_named_exists(folder: str, name: str) -> None:
    assert name in _tests_of(folder), f"docs/faults.md names {name}, which is not in tests/{folder}"


def test_a_test_that_is_named_after_a_fault_stands_in_its_row() -> None:
    for folder in ("unit", "contract", "integration", "security", "faults"):
        for name in _tests_of(folder):
            if mark := re.match(r"test_fault_(\d+)_", name):
                assert f"`{folder}::{name}`" in ROWS[int(mark[1])], f"{name} is not in docs/faults.md"
