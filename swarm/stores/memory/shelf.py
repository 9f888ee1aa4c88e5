"""One agent's memories: by id, and in the order of their moments in all rooms and in each.

Sorted on the way in, so that the latest of a room are found without looking at the others, however many
there are: an agent reads them at every turn.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterator
from typing import Final

import msgspec

from swarm.records import Memory

_encode: Final = msgspec.json.Encoder().encode
_decode: Final = msgspec.json.Decoder(list[Memory]).decode


class Shelf:
    def __init__(self) -> None:
        self.by_id: dict[str, Memory] = {}
        self._all: list[Memory] = []
        self._rooms: dict[str, list[Memory]] = {}

    def put(self, memory: Memory) -> None:
        """The first of an id stays. Memories of one moment stay in the order of writing."""
        if memory.id not in self.by_id:
            self.by_id[memory.id] = memory
            insort(self._all, memory, key=_moment)
            insort(self._rooms.setdefault(memory.room, []), memory, key=_moment)

    def take_before(self, moment: int, most: int) -> list[Memory]:
        """Remove the oldest that were made before `moment`, at most so many, and return them."""
        old = self._all[: min(bisect_left(self._all, moment, key=_moment), most)]
        for memory in old:
            del self.by_id[memory.id]
        del self._all[: len(old)]
        for room in {memory.room for memory in old}:
            self._rooms[room] = [memory for memory in self._rooms[room] if memory.id in self.by_id]
        return old

    def newest_first(self, room: str | None) -> Iterator[Memory]:
        return reversed(self._all if room is None else self._rooms.get(room, []))


def fresh(memories: list[Memory]) -> list[Memory]:
    """Copies that are their reader's own. They came in as JSON can hold them (`to_json`), so they go out by it,
    ten times as fast as by copy.deepcopy: an agent reads a room at each turn."""
    return _decode(_encode(memories))


def _moment(memory: Memory) -> int:
    return memory.created_at
