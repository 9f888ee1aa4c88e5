"""P5 in the long run: 100,000 turns with everything on leave nothing in the process. Alone: `make endurance`."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from bench.report import Row
from bench.turn import growth_mb
from bench.work import CHARACTER, Choosing, plugin
from swarm.agent.runtime import AgentRuntime

TURNS: Final = 100_000


async def measure(folder: Path) -> tuple[list[Row], list[str], dict[str, list[float]]]:
    runtime = AgentRuntime(CHARACTER, plugins=[plugin(), Choosing().plugin()])
    await runtime.initialize()
    try:
        grown = await growth_mb(runtime, TURNS)
    finally:
        await runtime.stop()
    row = Row(
        goal="P5",
        what=f"memory after {TURNS:,} more turns",
        unit="MB",
        ours=grown,
        judged="ours",
        limit=5.0,
    )
    return [row], ["What the store in memory keeps is let go after each 1,000 turns."], {"growth_mb": [grown]}
