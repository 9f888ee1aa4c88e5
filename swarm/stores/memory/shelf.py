"""One agent's memories: by id, and in the order of their moments in all rooms and in each.

Sorted on the way in, so that the latest of a room are found without looking at the others, however many
there are: an agent reads them at every turn.
"""

from __future__ import annotations

import copy
from bisect import insort
from collections.abc import Iterator

import msgspec

from swarm.records import Memory


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

    def newest_first(self, room: str | None) -> Iterator[Memory]:
        return reversed(self._all if room is None else self._rooms.get(room, []))


def fresh(memory: Memory) -> Memory:
    """A copy whose tables are its reader's own; texts are shared, since nobody can change them."""
    content = memory.content
    if not content.data and not content.metadata:
        return memory
    own = msgspec.structs.replace(
        content, data=copy.deepcopy(content.data), metadata=copy.deepcopy(content.metadata)
    )
    return msgspec.structs.replace(memory, content=own)


def _moment(memory: Memory) -> int:
    return memory.created_at
