"""Style is the linter's business: what `make lint` refuses, this refuses."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.architecture.tree import ROOT


@pytest.mark.parametrize("words", [("check", "--output-format", "concise"), ("format", "--diff", "--quiet")])
def test_ruff_has_nothing_to_say(words: tuple[str, ...]) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "ruff", *words, "."], cwd=ROOT, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stdout + done.stderr
