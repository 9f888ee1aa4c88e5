"""Writes that are ready at the same time, in one transaction: a commit to disk costs the same for one as for eight.

Nobody waits for company. While a write is on its way, those that become ready gather, and the first of them takes
all with it when the way is free. Each is decided on its own, as if it were alone: when the server refuses the
transaction, they are made one by one, so that none fails for another.
"""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass, field
from typing import Any, Final

from bus.errors import Refused
from swarm.errors import StoreDown, SwarmError, Unknown
from swarm.stores.postgres.pool import Connections

MOST: Final = 32
MOST_CHARACTERS: Final = 1_000_000
"""Of JSON in one transaction, the first write's not counted."""

Row = Any  # asyncpg.Record


@dataclass(slots=True, eq=False)
class _Write:
    """`end` gives its row; None says that it goes first now and takes the others along."""

    packed: str
    id: str
    end: asyncio.Future[Row | None] = field(
        default_factory=lambda: asyncio.get_running_loop().create_future()
    )


class Together:
    """`one` writes $1::jsonb and gives a row; `several` writes each of $1::jsonb[] in order, a row for each."""

    def __init__(self, connections: Connections, one: str, several: str) -> None:
        self._connections = connections
        self._one = one
        self._several = several
        self._ready: deque[_Write] = deque()
        self._under_way = False

    async def write(self, packed: str, id: str) -> Row:
        """The row of this write. Raises as `Connections.write`."""
        if not self._under_way:
            self._under_way = True
            return await self._lead(_Write(packed, id))
        mine = _Write(packed, id)
        self._ready.append(mine)
        try:
            row = await mine.end
        except asyncio.CancelledError:
            if mine in self._ready:
                self._ready.remove(mine)
            elif mine.end.done() and not mine.end.cancelled() and mine.end.result() is None:
                self._next()
            raise
        if row is not None:
            return row
        return await self._lead(_Write(packed, id))  # its first end has been used to say so

    async def _lead(self, mine: _Write) -> Row:
        batch, size = [mine], 0
        while self._ready and len(batch) < MOST:
            size += len(self._ready[0].packed)
            if size > MOST_CHARACTERS:
                break
            batch.append(self._ready.popleft())
        try:
            if len(batch) == 1:
                return await self._write(mine)
            return await self._write_all(mine, batch)
        finally:
            for one in batch[1:]:  # only when this was ended in between
                _fail(one, Unknown(one.id))
            self._next()

    async def _write(self, one: _Write) -> Row:
        return (await self._connections.write(self._one, one.packed, id=one.id))[0]

    async def _write_all(self, mine: _Write, batch: list[_Write]) -> Row:
        try:
            rows = await self._connections.write(self._several, [one.packed for one in batch], id=mine.id)
        except (StoreDown, Unknown) as error:
            for one in batch[1:]:
                _fail(one, error if isinstance(error, StoreDown) else Unknown(one.id))
            raise
        except (SwarmError, Refused):
            return await self._one_by_one(mine, batch)
        for one, row in zip(batch[1:], rows[1:], strict=True):
            _end(one, row)
        return rows[0]

    async def _one_by_one(self, mine: _Write, batch: list[_Write]) -> Row:
        for one in batch:
            try:
                _end(one, await self._write(one))
            except (SwarmError, Refused) as error:
                _fail(one, error)
        return await mine.end

    def _next(self) -> None:
        while self._ready:
            first = self._ready.popleft()
            if not first.end.done():
                first.end.set_result(None)
                return
        self._under_way = False


def _end(one: _Write, row: Row) -> None:
    if not one.end.done():
        one.end.set_result(row)


def _fail(one: _Write, error: Exception) -> None:
    if not one.end.done():
        one.end.set_exception(error)
