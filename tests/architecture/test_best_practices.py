"""H11: what docs/best-practices.md says is held; where a habit of the code holds it, here."""

from __future__ import annotations

import ast
import re

import pytest

from tests.architecture.tree import PACKAGES, ROOT, modules, names_of_tests

TEXT = (ROOT / "docs" / "best-practices.md").read_text()
PROOFS = sorted(set(re.findall(r"`(\w+)::(test_\w+)`", TEXT)))


@pytest.mark.parametrize(("folder", "name"), PROOFS)
def test_a_test_that_is_named_exists(folder: str, name: str) -> None:
    assert name in names_of_tests(folder)


def test_each_of_the_ten_has_its_row_and_a_proof() -> None:
    rows = re.findall(r"^\| (\d+) \| .*$", TEXT, re.M)
    assert rows == [str(number) for number in range(1, 11)]
    for line in TEXT.splitlines():
        if re.match(r"\| \d+ \|", line):
            assert re.search(r"`\w+::test_\w+`", line), line


def test_h11_the_runtime_is_handed_in_and_nothing_is_kept_in_globals() -> None:
    found = {
        path
        for path, module in modules(*PACKAGES, "agents").items()
        if any(isinstance(node, ast.Global) for node in ast.walk(module))
    }
    assert not found


def test_h11_every_cache_of_a_function_has_a_bound() -> None:
    for path, module in modules(*PACKAGES, "agents").items():
        for node in ast.walk(module):
            named = getattr(node, "id", getattr(node, "attr", None))
            assert named != "cache" or not isinstance(node, ast.Name), f"{path}: functools.cache has no bound"
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "lru_cache":
                sizes = [key.value for key in node.keywords if key.arg == "maxsize"]
                assert sizes and not (isinstance(sizes[0], ast.Constant) and sizes[0].value is None), path


def test_h11_no_test_mocks_a_server_or_skips() -> None:
    """A missing server fails a run. What stands in for one is held to the same contract tests."""
    for path, module in modules("tests").items():
        for node in ast.walk(module):
            if isinstance(node, ast.Import | ast.ImportFrom):
                names = [alias.name for alias in node.names] + [getattr(node, "module", None) or ""]
                assert not any("mock" in name for name in names), path
            if isinstance(node, ast.Attribute) and node.attr in ("skip", "skipif", "importorskip"):
                pytest.fail(f"{path}:{node.lineno} skips")
