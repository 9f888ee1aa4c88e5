"""The models an agent starts with: the built-in one always, and a configured endpoint over it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Final

from swarm.agent.models.local import Abilities, PlainPersona, register_local
from swarm.agent.models.openai_settings import OpenAISettings, configured
from swarm.agent.models.registry import ModelRegistry
from swarm.character import Character

SETTINGS: Final = (
    "OPENAI_BASE_URL",
    "OPENAI_API_KEY",
    "OPENAI_MODEL",
    "OPENAI_SMALL_MODEL",
    "OPENAI_LARGE_MODEL",
    "OPENAI_EMBEDDING_MODEL",
)
Close = Callable[[], Awaitable[None]]


def register_models(
    registry: ModelRegistry, character: Character, setting: Callable[[str, Any], Any], abilities: Abilities
) -> list[Close]:
    """Register them; returns how to close what was opened. Raises ModelError, ConfigError for settings
    that cannot be met, such as an extra that is not installed."""
    persona = PlainPersona(
        name=character.name,
        topics=tuple(character.topics),
        message_examples=tuple(
            tuple((line.speaker, line.text) for line in talk) for talk in character.conversations
        ),
    )
    register_local(registry, persona, abilities, embedding=bool(setting("localEmbedding", False)))
    given = {key: value for key in SETTINGS if (value := setting(key, None)) is not None}
    if not configured(given):
        return []
    from swarm.agent.models.openai_compatible import register_openai  # httpx: only for agents that use it

    return [register_openai(registry, OpenAISettings.from_mapping(given)).close]
