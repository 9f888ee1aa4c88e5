"""What an agent counts of itself (G8). Plain numbers, bounded in number by what is registered."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from swarm.agent.hand import MessageResult
    from swarm.components import ActionResult


@dataclass(slots=True)
class Metrics:
    """`errors` counts turns that were rejected or whose last action failed; times are in milliseconds."""

    started_at: float = field(default_factory=time.time)
    turns: int = 0
    errors: int = 0
    successful_ms: float = 0.0
    outcomes: Counter[str] = field(default_factory=Counter)
    actions: Counter[str] = field(default_factory=Counter)
    action_failures: Counter[str] = field(default_factory=Counter)
    failures: Counter[str] = field(default_factory=Counter)
    """Contained failures by ``kind name``, such as ``provider WEATHER``."""

    def count_turn(self, result: MessageResult) -> None:
        self.turns += 1
        self.outcomes[result.status] += 1
        if result.status == "rejected" or (result.actions and not result.actions[-1].success):
            self.errors += 1
        else:
            self.successful_ms += result.milliseconds

    def count_action(self, name: str, result: ActionResult) -> None:
        self.actions[name] += 1
        if not result.success:
            self.action_failures[name] += 1

    def count_failure(self, kind: str, name: str) -> None:
        self.failures[f"{kind} {name}"] += 1

    @property
    def error_rate(self) -> float:
        """Errors over all turns, 0..1."""
        return self.errors / self.turns if self.turns else 0.0

    @property
    def average_response_ms(self) -> float:
        """Over the successful turns."""
        good = self.turns - self.errors
        return self.successful_ms / good if good else 0.0
