"""Choosing an action by words alone: named outright, else BM25 with a softmax that may abstain.

The order is the safety: an action named whole wins; one the speaker forbids ("don't delete …") is out;
the rest is compared by words, and a choice that is not clearly the best is none. A wrong action costs
more than none, so doubt abstains. `tests/unit/test_models_choice_table.py` holds what was measured.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Final

from swarm.agent.models.types import Candidate, ChoiceReply, ChoiceRequest
from swarm.agent.models.words import Bm25, name_words, terms, words

FLOOR: Final = 0.1
"""The score that stands for "none of them" in the softmax: less than this abstains."""
TEMPERATURE: Final = 0.05
LEAST: Final = 0.5
"""The least share of the softmax that is a choice; two actions that are as likely share less."""

_NAME_WEIGHT: Final = 2
_REACH: Final = 2
"""Words after a negation that it forbids."""
_NEVER: Final = frozenset({"dont", "never"})
_NOT_AFTER: Final = frozenset({"do", "must", "should", "shall"})


def named(said: Sequence[str], candidates: Sequence[Candidate]) -> str | None:
    """The candidate whose name or simile stands in the text as whole words; the longest phrase wins.

    None when nothing is named or two candidates are named by phrases as long.
    """
    best: dict[str, int] = {}
    for one in candidates:
        for phrase in (name_words(one.name), *map(name_words, one.similes)):
            if _stands_in(phrase, said):
                best[one.name] = max(best.get(one.name, 0), len(phrase))
    longest = max(best.values(), default=0)
    winners = [name for name, length in best.items() if length == longest]
    return winners[0] if len(winners) == 1 else None


def forbidden(said: Sequence[str], candidates: Sequence[Candidate]) -> set[str]:
    """The candidates that the speaker says not to run: "don't", "never", "do not" before their words."""
    refused: set[str] = set()
    for at, word in enumerate(said):
        if word in _NEVER or (word == "not" and at > 0 and said[at - 1] in _NOT_AFTER):
            refused.update(terms(said[at + 1 : at + 1 + _REACH]))
    if not refused:
        return set()
    return {one.name for one in candidates if refused.intersection(_name_terms(one))}


def likeliest(
    scores: Mapping[str, float], *, floor: float, temperature: float, least: float
) -> tuple[str | None, float, dict[str, float]]:
    """The winner of a softmax in which "none" has the score `floor`: (name or None, share, all shares)."""
    top = max(floor, *scores.values()) if scores else floor
    lifted = {name: math.exp((score - top) / temperature) for name, score in scores.items()}
    whole = sum(lifted.values()) + math.exp((floor - top) / temperature)
    shares = {name: value / whole for name, value in lifted.items()}
    if not shares:
        return None, 0.0, {}
    winner = max(shares, key=lambda name: shares[name])  # max() keeps the first of equals
    if shares[winner] < least or scores[winner] < floor:
        return None, shares[winner], shares
    return winner, shares[winner], shares


class LexicalChooser:
    """Chooses by words. Keeps the index of the last set of candidates, which a turn rarely changes."""

    def __init__(
        self, *, floor: float = FLOOR, temperature: float = TEMPERATURE, least: float = LEAST
    ) -> None:
        self._floor, self._temperature, self._least = floor, temperature, least
        self._indexed: tuple[tuple[Candidate, ...], Bm25] | None = None

    async def choose(self, request: ChoiceRequest) -> ChoiceReply:
        said = words(request.text)
        out = forbidden(said, request.candidates)
        allowed = tuple(one for one in request.candidates if one.name not in out)
        outright = named(said, allowed)
        if outright is not None:
            return ChoiceReply(name=outright, outcome="chosen", confidence=1.0, scores={outright: 1.0})
        scores, floor = await self.scores(request, said)
        name, share, shares = likeliest(
            {one: score for one, score in scores.items() if one not in out},
            floor=floor,
            temperature=self._temperature,
            least=self._least,
        )
        winner = next((one for one in allowed if one.name == name), None)
        if winner is None or not self.supported(winner, said):
            return ChoiceReply(name=None, outcome="abstained", scores=shares)
        return ChoiceReply(name=winner.name, outcome="chosen", confidence=share, scores=shares)

    async def scores(self, request: ChoiceRequest, said: Sequence[str]) -> tuple[dict[str, float], float]:
        """A score for each candidate, by name, and the score that stands for none of them."""
        found = self._index(request.candidates).scores(terms(said))
        return {one.name: score for one, score in zip(request.candidates, found, strict=True)}, self._floor

    def supported(self, one: Candidate, said: Sequence[str]) -> bool:
        """False for a text that is nothing but a part of the candidate's name: ``act`` must not run
        BENCH_ACT_0, while ``an alarm at five`` may set one.
        """
        asked = set(terms(said))
        phrases = [set(terms(name_words(phrase))) for phrase in (one.name, *one.similes)]
        told = {term for text in (one.description, *one.examples) for term in terms(words(text))}
        fragment = asked <= set().union(*phrases) and not any(phrase <= asked for phrase in phrases if phrase)
        return not fragment or bool(asked & told)

    def _index(self, candidates: tuple[Candidate, ...]) -> Bm25:
        if self._indexed is None or self._indexed[0] != candidates:
            self._indexed = (candidates, Bm25([_document(one) for one in candidates]))
        return self._indexed[1]


def _document(one: Candidate) -> Counter[str]:
    counts: Counter[str] = Counter()
    for term in _name_terms(one):
        counts[term] += _NAME_WEIGHT
    for text in (one.description, *one.examples):
        counts.update(terms(words(text)))
    return counts


def _name_terms(one: Candidate) -> list[str]:
    return [term for phrase in (one.name, *one.similes) for term in terms(name_words(phrase))]


def _stands_in(phrase: Sequence[str], said: Sequence[str]) -> bool:
    size = len(phrase)
    return size > 0 and any(list(said[at : at + size]) == list(phrase) for at in range(len(said) - size + 1))
