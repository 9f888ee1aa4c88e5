"""One agent's memories: by id, and in the order of their moments in all rooms and in each.

Sorted on the way in, so that the latest of a room are found without looking at the others, however many
there are: an agent reads them at every turn.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterator
from typing import Any, Final

import msgspec

from swarm.records import Content, Memory

_SCALARS: Final = frozenset({str, int, float, bool, type(None)})


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


def fresh(memory: Memory) -> Memory:
    """A copy whose tables are its reader's own; texts are shared, since nobody can change them."""
    content = memory.content
    if not content.data and not content.metadata:
        return memory
    own = Content(content.text, _copied(content.data), _copied(content.metadata))
    return msgspec.structs.replace(memory, content=own)


def _copied(value: Any) -> Any:
    """A deep copy of what JSON can hold; several times as fast as copy.deepcopy, at each turn."""
    if type(value) is dict:
        return {key: item if type(item) in _SCALARS else _copied(item) for key, item in value.items()}
    if type(value) is list:
        return [_copied(item) for item in value]
    return value


def _moment(memory: Memory) -> int:
    return memory.created_at
