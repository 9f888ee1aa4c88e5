"""Tests wait for what they mean, in one spelling: `swarm.testing.eventually`. A sleep needs a reason that stands here.

A sleep that stands for synchronisation is either too short, and the test fails on a busy machine, or too long.
"""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
_SPELLINGS = re.compile(r"^(?:async )?def (until|eventually|wait_for|wait_until|poll)\b", re.MULTILINE)
HANGS = 60.0
"""A sleep of so many seconds is no wait: it stands for a process that hangs, and something else ends it."""

REASONS = {
    "coordinator_house.py": "a node's heart beats by the clock",
    "test_bus_permissions.py": "nats-py's flush overtakes what its flusher has not written yet",
    "test_character_web.py": "a server that drips",
    "test_models_openai.py": "a server that drips",
    "metrics_endpoint.py": "a server that drips",
    "test_coordinator_lease.py": "a lease must be let run by a known part of its time, with nothing happening",
    "nemesis.py": "a fault lasts as long as its schedule says",
    "run.py": "the account is looked at again and again until it is quiet",
    "wire.py": "a line that delays",
    "workload.py": "a pause between two tries of a client",
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


def test_tests_sleep_for_a_reason_that_stands_here_and_spell_waiting_in_one_way() -> None:
    asleep: set[str] = set()
    reasons = set(REASONS)
    spelled = []
    for file in sorted((ROOT / "tests").rglob("*.py")):
        source = file.read_text("utf-8")
        if "sleep(" in source and (lines := sleeps(source)):
            asleep |= (
                set() if file.name in REASONS else {f"{file.relative_to(ROOT)}:{line}" for line in lines}
            )
            reasons.discard(file.name)
        spelled += [f"{file.relative_to(ROOT)}: {found}" for found in _SPELLINGS.findall(source)]
    assert not asleep, "wait with swarm.testing.eventually, or yield with others_run: " + ", ".join(
        sorted(asleep)
    )
    assert not reasons, f"nothing sleeps any more in {', '.join(sorted(reasons))}; take the reason away"
    assert not spelled, f"there is swarm.testing.eventually: {', '.join(spelled)}"


@pytest.mark.parametrize(
    "line", ["await asyncio.sleep(0.1)", "time.sleep(1)", "await asyncio.sleep(0)", "sleep(n)"]
)
def test_it_would_catch(line: str) -> None:
    assert sleeps(f"async def test():\n    {line}\n") == [2]


@pytest.mark.parametrize("line", ["await clock.sleep(0.1)", "time.sleep(600)", "await eventually(done)"])
def test_it_lets_pass(line: str) -> None:
    assert sleeps(f"async def test():\n    {line}\n") == []
