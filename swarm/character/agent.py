"""An agent as a record: a character with a status and two times (A15 to A17).

The status says what was last written, not whether a process lives: that is read from heartbeats.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from enum import StrEnum
from typing import Any

from swarm.character.model import RUN_STATE, Character

Clock = Callable[[], float]
"""Seconds since the epoch, as `time.time` gives them."""


class AgentStatus(StrEnum):
    ACTIVE = "active"
    INACTIVE = "inactive"


class Agent(Character):
    """A character and its state. Frozen: each change makes a new value. Times are milliseconds since the epoch."""

    enabled: bool = True
    status: AgentStatus = AgentStatus.INACTIVE
    created_at: int
    updated_at: int

    def with_status(self, status: AgentStatus, *, clock: Clock = time.time) -> Agent:
        """This agent with another status; `updated_at` moves on, and never backwards."""
        return self._changed(self.unsealed(), clock, status=status)

    def with_character(self, character: Character, *, clock: Clock = time.time) -> Agent:
        """This agent with another character (a copy of it); `updated_at` moves on, and never backwards."""
        return self._changed(character.unsealed(), clock, status=self.status)

    def _changed(self, document: dict[str, Any], clock: Clock, *, status: AgentStatus) -> Agent:
        return _build(document, self.enabled, status, self.created_at, max(_ms(clock), self.updated_at))

    def _document(self) -> dict[str, Any]:
        return super()._document() | {
            "enabled": self.enabled,
            "status": self.status.value,
            "createdAt": self.created_at,
            "updatedAt": self.updated_at,
        }


def create_agent(character: Character, *, clock: Clock = time.time) -> Agent:
    """A new agent of this character: enabled, inactive, both times now. Shares nothing with the character."""
    now = _ms(clock)
    return _build(character.unsealed(), True, AgentStatus.INACTIVE, now, now)


def _build(document: dict[str, Any], enabled: bool, status: AgentStatus, created: int, updated: int) -> Agent:
    own = {key: value for key, value in document.items() if key not in RUN_STATE}
    state = {"enabled": enabled, "status": status.value, "createdAt": created, "updatedAt": updated}
    return Agent(**own, **state)


def _ms(clock: Clock) -> int:
    return round(clock() * 1000)
