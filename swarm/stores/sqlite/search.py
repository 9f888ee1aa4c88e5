"""Searching memories in the file's own thread: FTS5 and the vectors bring candidates, `ranking` scores them."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from heapq import nlargest
from operator import mul
from typing import Any, Final

from swarm.records import Found
from swarm.stores.queries import load
from swarm.stores.ranking import UNSPACED, Candidate, rank, words
from swarm.stores.sqlite.rows import to_memory, to_vector

KEPT: Final = 500
"""How many candidates come each way; at least as many as are asked for."""
_SQL: Final = load("sqlite.sql")


def search(
    connection: sqlite3.Connection,
    scope: Mapping[str, Any],
    text: str | None,
    vector: tuple[float, ...] | None,
    limit: int,
    min_score: float,
) -> list[Found]:
    """`scope` holds me, room, kind and model."""
    given = {**scope, "most": max(limit, KEPT)}
    rows: list[sqlite3.Row] = []
    parts = words(text or "")
    unspaced = {part for part in parts if UNSPACED.search(part)}
    if spelled := _as_written(text or "", parts - unspaced):
        query = " OR ".join(f'"{word}"' for word in sorted(spelled))  # letters and digits only
        rows += connection.execute(_SQL["search_words"], given | {"query": query}).fetchall()
    for part in sorted(unspaced):
        rows += connection.execute(_SQL["search_pattern"], given | {"part": part}).fetchall()
    if vector is not None:
        known = connection.execute(_SQL["vectors"], given | {"bytes": 4 * len(vector)})
        nearest = nlargest(
            given["most"],
            ((sum(map(mul, vector, to_vector(blob) or ())), seq) for seq, blob in known),
        )
        for cosine, seq in nearest:
            if cosine > 0:
                rows.append(connection.execute(_SQL["memory_of"], given | {"seq": seq}).fetchone())
    candidates = {row["seq"]: Candidate(to_memory(row), to_vector(row["vector"])) for row in rows}
    return rank(list(candidates.values()), text, vector, limit, min_score)


def _as_written(text: str, folded: set[str]) -> set[str]:
    """FTS5 folds case its own way, so it is asked for the words as they stand, too."""
    plain = "".join(character if character.isalnum() else " " for character in text).split()
    return folded | {word for word in plain if not UNSPACED.search(word)}
