"""The models of an agent: what is asked (`types`), who answers (`registry`), and how an action is
chosen (`choice`). Providers are imported by whoever registers them: `local` and `openai_compatible`.
"""

from __future__ import annotations

from swarm.agent.models.choice import candidate, choose, escalate, resolve
from swarm.agent.models.registry import Handler, ModelCall, ModelRegistry, Registration
from swarm.agent.models.types import (
    CHOICE,
    EMBEDDING,
    OBJECT,
    TEXT_LARGE,
    TEXT_SMALL,
    Candidate,
    ChoiceReply,
    ChoiceRequest,
    EmbeddingReply,
    EmbeddingRequest,
    Message,
    ModelType,
    ObjectReply,
    ObjectRequest,
    TextReply,
    TextRequest,
    Usage,
)

__all__ = [
    "CHOICE",
    "EMBEDDING",
    "OBJECT",
    "TEXT_LARGE",
    "TEXT_SMALL",
    "Candidate",
    "ChoiceReply",
    "ChoiceRequest",
    "EmbeddingReply",
    "EmbeddingRequest",
    "Handler",
    "Message",
    "ModelCall",
    "ModelRegistry",
    "ModelType",
    "ObjectReply",
    "ObjectRequest",
    "Registration",
    "TextReply",
    "TextRequest",
    "Usage",
    "candidate",
    "choose",
    "escalate",
    "resolve",
]
