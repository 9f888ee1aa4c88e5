"""The messages of the rooms an agent has just been in, kept so that its next turn there asks the database nothing.

Only for a store that is alone: one instance of the agent, which reads nobody's memories but its own. Then all that
is written goes by here. What goes past it all the same (another process with this login, a right that was just
given, rows that are pruned) is seen after `SECONDS` at the latest. Memories are kept as JSON, because those who read
them may change what they were given.
"""

from __future__ import annotations

import time
from bisect import insort
from collections.abc import Callable, Iterable
from typing import Final

import msgspec

from swarm.records import Memory

KIND: Final = "message"
SECONDS: Final = 5.0
MOST_BYTES: Final = 1_000_000
"""Of all rooms together; those that were not asked for longest go first."""

_encode: Final = msgspec.json.Encoder().encode
_decode: Final = msgspec.json.Decoder(list[Memory]).decode
_Kept = tuple[int, str, bytes]
"""When, the id, and the memory."""


class Reading:
    """A room's newest messages. While they are being read there are none; `whole`: nothing older is in the database."""

    def __init__(self, most: int, ends: float) -> None:
        self.most = most
        self.ends = ends
        self.filled = False
        self.whole = False
        self.kept: list[_Kept] = []
        self.size = 0

    def put(self, memory: Memory) -> None:
        """The first of an id stays, as in the database; what is too much is the oldest."""
        if any(id == memory.id for _, id, _ in self.kept):
            return
        packed = _encode(memory)
        insort(self.kept, (memory.created_at, memory.id, packed), key=_moment)
        self.size += len(packed)
        if len(self.kept) > self.most:
            self.size -= len(self.kept.pop(0)[2])
            self.whole = False


class Recent:
    """`begin` before a read and `fill` after it; `wrote` after what is written, `forget` when that is not known."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._rooms: dict[str, Reading] = {}
        self._size = 0

    def find(self, room: str, most: int) -> list[Memory] | None:
        """The newest `most` messages in order, or None when the database must be asked."""
        known = self._rooms.get(room)
        if known is None or not known.filled:
            return None
        if self._clock() >= known.ends or (most > len(known.kept) and not known.whole):
            self._drop(room)
            return None
        self._rooms[room] = self._rooms.pop(room)  # the last to go
        newest = known.kept[-most:] if most > 0 else []
        return _decode(b"[" + b",".join(packed for _, _, packed in newest) + b"]")

    def begin(self, room: str, most: int) -> Reading:
        """A read of the room's newest `most` messages begins; what is written before its end makes it useless."""
        self._drop(room)
        reading = self._rooms[room] = Reading(most, self._clock() + SECONDS)
        return reading

    def fill(self, room: str, reading: Reading, messages: Iterable[Memory]) -> None:
        if self._rooms.get(room) is not reading:
            return
        for memory in messages:
            reading.put(memory)
        reading.filled, reading.whole = True, len(reading.kept) < reading.most
        self._size += reading.size
        self._shrink()

    def wrote(self, memories: Iterable[Memory]) -> None:
        """They are committed."""
        for memory in memories:
            known = self._rooms.get(memory.room) if memory.kind == KIND else None
            if known is None:
                continue
            if not known.filled or not memory.created_at or memory.id != memory.id.lower():
                self._drop(memory.room)
                continue
            self._size -= known.size
            known.put(memory)
            self._size += known.size
        self._shrink()

    def forget(self, memories: Iterable[Memory]) -> None:
        """Whether they are committed is not known."""
        for memory in memories:
            self._drop(memory.room)

    def _drop(self, room: str) -> None:
        known = self._rooms.pop(room, None)
        if known is not None and known.filled:
            self._size -= known.size

    def _shrink(self) -> None:
        while self._size > MOST_BYTES:
            self._drop(next(iter(self._rooms)))


def _moment(kept: _Kept) -> int:
    return kept[0]
