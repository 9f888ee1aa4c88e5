"""What agents remember, and the rooms in which they do."""

from __future__ import annotations

from typing import Literal

import msgspec

from swarm.records.messages import Content

RoomState = Literal["present", "followed", "muted"]
"""How an agent takes part in a room: it is there, it follows (answers all), or it reads and keeps quiet."""


class Memory(msgspec.Struct, frozen=True, kw_only=True):
    """Something an agent remembers in a room. `entity` is who said or did it (a name)."""

    id: str
    room: str
    entity: str
    content: Content
    kind: str = "message"
    created_at: int = 0


class Found(msgspec.Struct, frozen=True):
    """A memory that a search found. `score` lies in 0..1; scores of two different searches do not compare."""

    memory: Memory
    score: float


class Room(msgspec.Struct, frozen=True, kw_only=True):
    """A room that an agent takes part in. `participants` are names, sorted, itself among them."""

    id: str
    state: RoomState
    joined_at: int
    participants: tuple[str, ...]

    @property
    def direct(self) -> bool:
        """Two talk here; more are a group."""
        return len(self.participants) == 2


class Participant(msgspec.Struct, frozen=True, kw_only=True):
    """An agent in a room, by name."""

    name: str
    state: RoomState
    joined_at: int
