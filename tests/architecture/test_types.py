"""Strict types, as `make lint` checks them. The cache in the project makes a second run take a second."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.architecture.tree import ROOT


@pytest.mark.timeout(300)
def test_mypy_strict_has_nothing_to_say() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--cache-dir", ROOT / ".mypy_cache", "--no-color-output"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "no issues found" in done.stdout
