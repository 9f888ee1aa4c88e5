"""Characters: loading, checking, showing and linting them. See docs/guide/characters.md."""

from swarm.character.agent import Agent, AgentStatus, create_agent
from swarm.character.document import InvalidCharacter
from swarm.character.model import Character, Line
from swarm.character.plugins import plugin_kind, provider_hint
from swarm.character.validation import Validation, validate_character

__all__ = [
    "Agent",
    "AgentStatus",
    "Character",
    "InvalidCharacter",
    "Line",
    "Validation",
    "create_agent",
    "plugin_kind",
    "provider_hint",
    "validate_character",
]
