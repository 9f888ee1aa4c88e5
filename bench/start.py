"""P8: how soon the command line answers. `swarm ps` of a swarm that runs, and `import swarm`, beside a bare Python."""

from __future__ import annotations

import asyncio
import os
import resource
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from bench.project import SWARM, RunningProject
from bench.report import Rounds, Row

ROUNDS: Final = 15


async def measure(folder: Path) -> tuple[list[Row], list[str], dict[str, list[float]]]:
    running = RunningProject(folder, ["one", "two", "three"])
    rounds = Rounds()
    await running.up()
    try:
        for number in range(-1, ROUNDS):
            for name, argv in _programs().items():
                wall, cpu = await asyncio.to_thread(_time, argv, folder)
                if number >= 0:
                    rounds.add(**{f"{name}_ms": wall * 1000, f"{name}_cpu_ms": cpu * 1000})
    finally:
        await running.down()
    return _rows(rounds), _notes(rounds), rounds.figures


def _programs() -> dict[str, Sequence[str | Path]]:
    return {
        "bare": [sys.executable, "-c", "pass"],
        "ps": [SWARM, "ps"],
        "import": [sys.executable, "-c", "import swarm"],
        "help": [SWARM, "--help"],
    }


def _time(argv: Sequence[str | Path], folder: Path) -> tuple[float, float]:
    """Seconds of wall and CPU time until the program has ended. It must succeed."""
    before, began = _children_cpu(), time.perf_counter()
    done = subprocess.run(
        argv, cwd=folder, env=os.environ | {"NO_COLOR": "1"}, capture_output=True, timeout=30
    )
    wall = time.perf_counter() - began
    if done.returncode != 0:
        raise RuntimeError(f"{argv[1:]} ended with {done.returncode}: {done.stderr.decode()}")
    return wall, _children_cpu() - before


def _children_cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _rows(rounds: Rounds) -> list[Row]:
    def row(what: str, name: str, limit: float | None) -> Row:
        return rounds.row("P8", what, "ms", f"{name}_ms", "bare_ms", judged="ours", limit=limit)

    return [
        row("swarm ps / bare Python", "ps", 150),
        row("import swarm / bare Python", "import", 100),
        row("swarm --help / bare Python", "help", None),
    ]


def _notes(rounds: Rounds) -> list[str]:
    spent = ", ".join(f"{name} {rounds.median(f'{name}_cpu_ms'):.0f}" for name in _programs())
    return [f"{ROUNDS} rounds; CPU ms of a run: {spent}."]
