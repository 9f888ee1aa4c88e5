"""Characters: loading, checking, showing and linting them. See docs/guide/characters.md."""

from swarm.character.agent import Agent, AgentStatus, create_agent
from swarm.character.document import InvalidCharacter
from swarm.character.lint import Finding, lint, lint_character, show
from swarm.character.loading import CharacterStore, load_character
from swarm.character.model import Character, Line
from swarm.character.plugins import plugin_kind, provider_hint
from swarm.character.validation import Validation, validate_character

__all__ = [
    "Agent",
    "AgentStatus",
    "Character",
    "CharacterStore",
    "Finding",
    "InvalidCharacter",
    "Line",
    "Validation",
    "create_agent",
    "lint",
    "lint_character",
    "load_character",
    "plugin_kind",
    "provider_hint",
    "show",
    "validate_character",
]
