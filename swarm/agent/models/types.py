"""What a model is asked and what it answers: the model types and one frozen value for each side.

A handler takes one request and returns the reply of its type; both are values, so a request can be
logged, replayed and compared. Text is str, durations are seconds, counts are tokens, a vector is a
tuple of floats of length 1. Nothing here knows a provider.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from enum import StrEnum
from typing import Any, Final, Literal

import msgspec


class ModelType(StrEnum):
    """The types the runtime itself asks for; a plugin may register others under a name of its own."""

    TEXT_SMALL = "text_small"
    TEXT_LARGE = "text_large"
    OBJECT = "object"
    EMBEDDING = "embedding"
    CHOICE = "choice"


TEXT_SMALL: Final = ModelType.TEXT_SMALL
TEXT_LARGE: Final = ModelType.TEXT_LARGE
OBJECT: Final = ModelType.OBJECT
EMBEDDING: Final = ModelType.EMBEDDING
CHOICE: Final = ModelType.CHOICE

Role = Literal["system", "user", "assistant"]
OnChunk = Callable[[str], Awaitable[None]]
"""Gets each piece of a reply as it comes; joined, the pieces are the reply's text."""


class Message(msgspec.Struct, frozen=True):
    role: Role
    content: str


class Usage(msgspec.Struct, frozen=True):
    """Tokens of one call. `estimated` where the provider did not count them itself."""

    input_tokens: int = 0
    output_tokens: int = 0
    estimated: bool = False

    @property
    def total(self) -> int:
        return self.input_tokens + self.output_tokens

    def __add__(self, other: Usage) -> Usage:
        return Usage(
            self.input_tokens + other.input_tokens,
            self.output_tokens + other.output_tokens,
            self.estimated or other.estimated,
        )


class Conversation(msgspec.Struct, frozen=True, kw_only=True):
    """What text and object requests share: what was said, and how long the answer may take.

    `messages` are said first and `prompt`, if any, last as the user; one of them must be there. Put
    composed context into `system`: the last user message is what a local model answers. `timeout`
    is in seconds for the whole call, retries and streaming included; None takes the provider's own.
    `user` is the name of who speaks, for placeholders.
    """

    prompt: str = ""
    messages: tuple[Message, ...] = ()
    system: str | None = None
    user: str = ""
    temperature: float | None = None
    max_tokens: int | None = None
    timeout: float | None = None

    def __post_init__(self) -> None:
        if not self.prompt and not self.messages:
            raise ValueError("A model request needs a prompt or messages.")

    def turns(self) -> tuple[Message, ...]:
        """The messages with the prompt as the last of them, without `system`."""
        return (*self.messages, Message("user", self.prompt)) if self.prompt else self.messages

    def last_user_text(self) -> str:
        said = [m.content for m in self.turns() if m.role == "user"]
        return said[-1] if said else ""


class TextRequest(Conversation, frozen=True, kw_only=True):
    stop: tuple[str, ...] = ()
    on_chunk: OnChunk | None = None


class TextReply(msgspec.Struct, frozen=True):
    """`finish` is ``stop``, ``length`` (cut at max_tokens) or the provider's own word."""

    text: str
    usage: Usage = Usage()
    model: str = ""
    finish: str = "stop"


class ObjectRequest(Conversation, frozen=True, kw_only=True):
    """Asks for a JSON value by a JSON Schema; deep validation is the asker's, who knows the type."""

    schema: Mapping[str, Any]
    name: str = "answer"


class ObjectReply(msgspec.Struct, frozen=True):
    value: Any
    usage: Usage = Usage()
    model: str = ""


class EmbeddingRequest(msgspec.Struct, frozen=True, kw_only=True):
    """`purpose` matters to models that embed what is searched for unlike what is found."""

    texts: tuple[str, ...]
    purpose: Literal["query", "passage"] = "passage"
    timeout: float | None = None


class EmbeddingReply(msgspec.Struct, frozen=True):
    """One vector for each text, in order. Vectors of different `model` must never be compared."""

    vectors: tuple[tuple[float, ...], ...]
    usage: Usage = Usage()
    model: str = ""


class Candidate(msgspec.Struct, frozen=True):
    """An action that may be chosen. `examples` are what a user says when it is meant."""

    name: str
    description: str = ""
    similes: tuple[str, ...] = ()
    examples: tuple[str, ...] = ()


class ChoiceRequest(msgspec.Struct, frozen=True, kw_only=True):
    """Which of the candidates, if any, does `text` ask for? `context` is what was said before it."""

    text: str
    candidates: tuple[Candidate, ...]
    context: tuple[Message, ...] = ()
    timeout: float | None = None


ChoiceOutcome = Literal["chosen", "only", "abstained", "unresolved", "empty", "failed"]


class ChoiceReply(msgspec.Struct, frozen=True, kw_only=True):
    """The chosen candidate's own name, or None.

    `outcome` says why: ``chosen`` by the model, ``only`` one candidate (no model was asked),
    ``abstained``, ``unresolved`` (the model named what is not there; `answer` is what it said) or
    ``empty`` (no candidates) or ``failed`` (no selector could be asked). `confidence` and `scores` lie in
    0..1; they are 0 and empty where a model gives none. `plan` names several actions in the order in
    which they should run, `name` first; it is empty when one action is all.
    """

    name: str | None
    outcome: ChoiceOutcome
    confidence: float = 0.0
    scores: Mapping[str, float] = {}
    answer: str = ""
    usage: Usage = Usage()
    model: str = ""
    plan: tuple[str, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """All that was chosen, in order."""
        return self.plan or ((self.name,) if self.name is not None else ())
