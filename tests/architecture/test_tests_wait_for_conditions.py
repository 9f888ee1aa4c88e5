"""Tests wait for what they mean, in one spelling: `swarm.testing.eventually`. A sleep needs a reason that stands here.

A sleep that stands for synchronisation is either too short, and the test fails on a busy machine, or too long.
"""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
HANGS = 60.0
"""A sleep of so many seconds is no wait: it stands for a process that hangs, and something else ends it."""

REASONS = {
    "coordinator_house.py": "a node's heart beats by the clock",
    "test_bus_permissions.py": "nats-py's flush overtakes what its flusher has not written yet",
    "test_character_web.py": "a server that drips",
    "test_models_openai.py": "a server that drips",
    "test_coordinator_lease.py": "a lease must be let run by a known part of its time, with nothing happening",
    "test_retention.py": "what is pruned must have an age",
}
"""File → why it sleeps."""


def sleeps(source: str) -> list[int]:
    """The lines that sleep for a time of their own; `clock.sleep` and the like belong to a clock of the test."""
    return [
        node.lineno
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Call)
        and ast.unparse(node.func) in ("asyncio.sleep", "time.sleep", "sleep")
        and not _hangs(node)
    ]


def _hangs(call: ast.Call) -> bool:
    seconds = call.args[0] if call.args else None
    return (
        isinstance(seconds, ast.Constant)
        and isinstance(seconds.value, int | float)
        and seconds.value >= HANGS
    )


def test_no_test_sleeps_without_a_reason() -> None:
    found = {
        f"{file.relative_to(ROOT)}:{line}"
        for file in sorted((ROOT / "tests").rglob("*.py"))
        if file.name not in REASONS
        for line in sleeps(file.read_text("utf-8"))
    }
    assert not found, "wait with swarm.testing.eventually, or yield with others_run: " + ", ".join(
        sorted(found)
    )


def test_every_reason_is_needed() -> None:
    files = {file.name: file for file in (ROOT / "tests").rglob("*.py")}
    assert [name for name in REASONS if name not in files or not sleeps(files[name].read_text("utf-8"))] == []


def test_nobody_spells_waiting_anew() -> None:
    spelled = [
        f"{file.relative_to(ROOT)}:{node.lineno}"
        for file in sorted((ROOT / "tests").rglob("*.py"))
        for node in ast.parse(file.read_text("utf-8")).body
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and node.name in ("until", "eventually", "wait_for", "wait_until", "poll")
    ]
    assert spelled == []


@pytest.mark.parametrize(
    "line", ["await asyncio.sleep(0.1)", "time.sleep(1)", "await asyncio.sleep(0)", "sleep(n)"]
)
def test_it_would_catch(line: str) -> None:
    assert sleeps(f"async def test():\n    {line}\n") == [2]


@pytest.mark.parametrize("line", ["await clock.sleep(0.1)", "time.sleep(600)", "await eventually(done)"])
def test_it_lets_pass(line: str) -> None:
    assert sleeps(f"async def test():\n    {line}\n") == []
