"""Searching memories on Postgres: the database brings the candidates, `ranking` scores them.

By embedding, pgvector picks the nearest where the database has it; where not, the vectors come here and
the cosine is worked out in a thread, exactly (in SQL it is 170 times slower). Either way they are of
agents that one may read: row security says so, and the index on the agent makes them few.
"""

from __future__ import annotations

import asyncio
import sys
from array import array
from collections.abc import Mapping, Sequence
from heapq import nlargest
from operator import mul
from typing import Any, Final

from swarm.records import Found
from swarm.stores.postgres.names import identifier
from swarm.stores.postgres.pool import Connections, Rows
from swarm.stores.postgres.rows import to_memory
from swarm.stores.ranking import UNSPACED, Candidate, rank, words

KEPT: Final = 500
"""How many candidates come by text and how many by embedding; at least as many as are asked for."""


class Search:
    def __init__(self, connections: Connections, statements: Mapping[str, str]) -> None:
        self._connections = connections
        self._sql = statements
        self._nearest: str | None = None
        """The statement with pgvector's schema; empty where the database has no pgvector."""

    async def run(
        self,
        text: str | None,
        vector: tuple[float, ...] | None,
        model: str | None,
        room: str | None,
        kind: str | None,
        limit: int,
        min_score: float,
    ) -> list[Found]:
        rows: Rows = []
        if text and words(text):
            query, patterns = _text_query(text)
            rows += await self._connections.read(self._sql["search_text"], room, kind, query, patterns, model)
        if vector is not None:
            rows += await self._by_vector(room, kind, model, vector, max(limit, KEPT))
        candidates = {}
        for row in rows:  # of a memory that came both ways, the one whose cosine the database has worked out
            candidates[row["agent"], row["id"]] = Candidate(to_memory(row), row["vector"], row["cosine"])
        return rank(list(candidates.values()), text, vector, limit, min_score)

    async def _by_vector(
        self, room: str | None, kind: str | None, model: str | None, vector: tuple[float, ...], most: int
    ) -> Rows:
        if self._nearest is None:
            found = await self._connections.read(self._sql["vector_schema"])
            self._nearest = self._sql["nearest"].replace("@vector@", identifier(found[0][0])) if found else ""
        scope = (room, kind, model, len(vector))
        if self._nearest:
            return await self._connections.read(self._nearest, *scope, vector, most)
        rows = await self._connections.read(self._sql["vectors"], *scope)
        nearest = await asyncio.to_thread(_nearest, rows, vector, most)
        agents, ids, cosines = zip(*nearest, strict=True) if nearest else ((), (), ())
        return await self._connections.read(self._sql["memories_of"], agents, ids, cosines)


def _nearest(rows: Rows, vector: Sequence[float], most: int) -> list[tuple[Any, Any, float]]:
    cosines = ((float(sum(map(mul, vector, _floats(row["vector"])))), row) for row in rows)
    return [
        (row["agent"], row["memory"], cosine)
        for cosine, row in nlargest(most, cosines, key=lambda one: one[0])
    ]


def _floats(sent: bytes) -> array[float]:
    """A float4[] of one dimension as the server sends it: 20 bytes of header, then for each number its length
    (4 bytes) and itself, big-endian. Taken apart here, in the thread: asyncpg would do it on the loop."""
    numbers = array("f")
    numbers.frombytes(sent[20:])
    if sys.byteorder == "little":
        numbers.byteswap()
    return numbers[1::2]


def _text_query(text: str) -> tuple[str, list[str]]:
    """A tsquery of the words, each in the cases that a server leaves alone in some locales, and patterns
    for what is written without spaces. Both hold letters and digits only."""
    parts = words(text)
    plain = {part for part in parts if not UNSPACED.search(part)}
    cases = {case for part in plain for case in (part, part.lower(), part.upper(), part.capitalize())}
    cases |= {part for part in _as_written(text) if not UNSPACED.search(part)}
    query = " | ".join(f"'{case}'" for case in sorted(cases))
    return query, [f"%{part}%" for part in sorted(parts - plain)]


def _as_written(text: str) -> set[str]:
    return set("".join(c if c.isalnum() else " " for c in text).split())
