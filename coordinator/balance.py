"""Which of an agent's replicas gets the next message.

room          rendezvous hashing over the live instances' slots: a room keeps its instance for as long as that
              lives, and when it dies only its rooms move
round-robin   an exact cycle in the order of slots; whoever cannot take it is skipped
least-loaded  the fewest in flight; among equals, the one that was chosen longest ago
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from hashlib import blake2b
from typing import Protocol, TypeVar

from swarm.records import Balance


class Member(Protocol):
    @property
    def key(self) -> str: ...


M = TypeVar("M", bound=Member)


def rendezvous(room: str, members: Sequence[M]) -> M:
    """The member of this room: the one with the highest hash of (room, key). Raises ValueError when empty."""
    if len(members) == 1:
        return members[0]
    return max(members, key=lambda member: (_weight(room, member.key), member.key))


def _weight(room: str, key: str) -> bytes:
    return blake2b(f"{key}\0{room}".encode("utf-8", "surrogatepass"), digest_size=8).digest()


class Balancer:
    """The choices of one agent's replicas; remembers what a cycle needs."""

    def __init__(self) -> None:
        self._last = ""
        self._turns = 0
        self._chosen: dict[str, int] = {}

    def pick(
        self,
        how: Balance,
        room: str,
        members: Sequence[M],
        *,
        load: Callable[[M], int],
        can_take: Callable[[M], bool],
    ) -> M | None:
        """One of `members` (sorted by key), or None when none of them can take it now. With ``room`` there
        is only one right member: when that cannot take it, the message waits for it."""
        if how == "room":
            if not members:
                return None
            member = rendezvous(room, members)
            return member if can_take(member) else None
        able = [member for member in members if can_take(member)]
        if not able:
            return None
        if how == "round-robin":
            chosen = next((member for member in able if member.key > self._last), able[0])
        else:
            chosen = min(able, key=lambda member: (load(member), self._chosen.get(member.key, 0), member.key))
        self._turns += 1
        if len(self._chosen) > 4 * len(members) + 16:  # keys of the long dead
            self._chosen = {m.key: self._chosen.get(m.key, 0) for m in members}
        self._last = chosen.key
        self._chosen[chosen.key] = self._turns
        return chosen
