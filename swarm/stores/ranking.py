"""How a search scores memories: the same arithmetic for every store, so that all of them agree.

A store brings the candidates (what its caller may read, within room and kind); a database may leave out
those that share no word with the text and have no vector, since they score 0 anyway.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence
from operator import mul
from typing import Final, NamedTuple

from swarm.records import Found, Memory

_RUN: Final = re.compile(r"[^\W_]+")
UNSPACED: Final = re.compile(r"[\u0e00-\u0eff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff]+")
"""Thai, Lao, kana and Han are written without spaces: there, each pair of characters serves as a word."""


class Candidate(NamedTuple):
    memory: Memory
    vector: Sequence[float] | None
    """At length 1, or None when there is none of the asked model."""
    cosine: float | None = None
    """Where the database has worked it out already."""


def words(text: str) -> set[str]:
    """The words that a text is found by, without regard to case."""
    found: set[str] = set()
    for run in _RUN.findall(text.casefold()):
        for piece in UNSPACED.findall(run):
            found.update(piece[i : i + 2] for i in range(max(len(piece) - 1, 1)))
        found.update(piece for piece in UNSPACED.split(run) if piece)
    return found


def rank(
    candidates: Sequence[Candidate],
    text: str | None,
    vector: Sequence[float] | None,
    limit: int,
    min_score: float,
) -> list[Found]:
    """The best first; of equal score the newest. `vector` has length 1."""
    by_text = _coverage([c.memory for c in candidates], words(text)) if text else [0.0] * len(candidates)
    found = []
    for candidate, share in zip(candidates, by_text, strict=True):
        score = 1 - (1 - share) * (1 - _nearness(candidate, vector))
        if score > 0 and score >= min_score:
            found.append(Found(candidate.memory, round(score, 6)))
    found.sort(key=lambda one: (-one.score, -one.memory.created_at, one.memory.id))
    return found[: max(limit, 0)]


def _nearness(candidate: Candidate, vector: Sequence[float] | None) -> float:
    if candidate.cosine is not None:
        return min(max(candidate.cosine, 0.0), 1.0)
    if vector is None or candidate.vector is None or len(vector) != len(candidate.vector):
        return 0.0
    return min(max(float(sum(map(mul, vector, candidate.vector))), 0.0), 1.0)


def _coverage(memories: Sequence[Memory], asked: set[str]) -> list[float]:
    """For each memory the share of the asked words that it has, a word weighing more the fewer have it."""
    if not asked:
        return [0.0] * len(memories)
    held = [asked & words(memory.content.text) for memory in memories]
    having = Counter(word for has in held for word in has)
    some = sum(1 for has in held if has)  # those without any word change nothing: a database leaves them out
    weight = {word: math.log(1 + (some + 0.5) / (having[word] + 0.5)) for word in asked}
    whole = sum(weight.values())
    return [sum(weight[word] for word in has) / whole for has in held]
