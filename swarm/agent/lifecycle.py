"""The states of an agent's runtime, drawn once (A1).

    CREATED → INITIALIZING → ACTIVE → STOPPING → STOPPED
                   └────────→ FAILED   └──→ FAILED

A failed or stopped runtime is not started again: build a new one. Every change is told to whoever
listens, with the moment it happened.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from enum import StrEnum
from typing import Final

from swarm.errors import IllegalTransition


class Phase(StrEnum):
    CREATED = "created"
    INITIALIZING = "initializing"
    ACTIVE = "active"
    STOPPING = "stopping"
    STOPPED = "stopped"
    FAILED = "failed"


_NEXT: Final = {
    Phase.CREATED: {Phase.INITIALIZING, Phase.STOPPED},
    Phase.INITIALIZING: {Phase.ACTIVE, Phase.FAILED},
    Phase.ACTIVE: {Phase.STOPPING},
    Phase.STOPPING: {Phase.STOPPED, Phase.FAILED},
    Phase.STOPPED: set[Phase](),
    Phase.FAILED: set[Phase](),
}

OnChange = Callable[[Phase, Phase, int], None]
"""Called with the old phase, the new one and the moment in Unix milliseconds."""


class Lifecycle:
    """One runtime's phase. `trace` is every phase it has been in, with its moment."""

    def __init__(self, on_change: OnChange | None = None, clock: Callable[[], float] = time.time) -> None:
        self._on_change = on_change
        self._clock = clock
        self.phase = Phase.CREATED
        self.trace: list[tuple[Phase, int]] = [(Phase.CREATED, int(clock() * 1000))]

    def to(self, phase: Phase) -> None:
        """Raises IllegalTransition for a change that is not drawn above."""
        if phase not in _NEXT[self.phase]:
            raise IllegalTransition(
                f"An agent that is {self.phase} cannot become {phase}; build a new runtime instead."
            )
        old, self.phase = self.phase, phase
        now = int(self._clock() * 1000)
        self.trace.append((phase, now))
        if self._on_change is not None:
            self._on_change(old, phase, now)
