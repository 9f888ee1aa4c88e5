"""What the nemesis will do, drawn from a seed before anything runs."""

from __future__ import annotations

import json
import random
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

KINDS: Final[dict[str, tuple[int, float]]] = {
    "kill_agent": (6, 0.0),
    "stop_agent": (3, 8.0),
    "kill_coordinator": (3, 0.0),
    "pause_coordinator": (2, 5.0),
    "kill_node": (1, 0.0),
    "restart_nats": (2, 0.0),
    "restart_postgres": (2, 0.0),
    "hang_up_nats": (2, 0.0),
    "hang_up_postgres": (2, 0.0),
    "swallow_postgres": (2, 0.5),
    "delay_nats": (1, 2.0),
    "delay_postgres": (1, 2.0),
    "stall_nats": (1, 2.0),
    "stall_postgres": (1, 2.0),
    "part_agent_from_nats": (2, 3.0),
    "part_agent_from_postgres": (2, 3.0),
    "part_coordinator_from_nats": (1, 4.0),
    "part_coordinator_from_postgres": (1, 4.0),
    "part_coordinator_from_both": (1, 4.0),
    "poison": (1, 0.0),
    "raise": (1, 0.0),
    "fill": (1, 0.0),
    "loop": (1, 0.0),
}
"""How often each is drawn, and for how many seconds it lasts."""


@dataclass(frozen=True)
class Fault:
    """`after` seconds of calm; `pick` in [0, 1) chooses among those there are."""

    kind: str
    after: float
    seconds: float
    pick: float


def draw(seed: int, seconds: float, kinds: tuple[str, ...] = ()) -> list[Fault]:
    """Enough faults for so many seconds, whatever they take. `kinds`: these, in this order, and again."""
    rng = random.Random(seed)
    weights = {kind: weight for kind, (weight, _) in KINDS.items()}
    faults: list[Fault] = []
    for number in range(max(1, int(seconds), len(kinds))):
        kind = kinds[number % len(kinds)] if kinds else rng.choices(list(weights), list(weights.values()))[0]
        lasts = KINDS[kind][1] * rng.uniform(0.8, 1.2)
        faults.append(Fault(kind, round(rng.uniform(0.1, 1.0), 2), round(lasts, 2), round(rng.random(), 4)))
    return faults


def write(file: Path, seed: int, faults: list[Fault]) -> None:
    file.write_text(
        json.dumps({"seed": seed, "faults": [asdict(fault) for fault in faults]}, indent=1) + "\n"
    )
