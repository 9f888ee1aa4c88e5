"""What a language model is told: who the agent is, how it speaks, what it knows, and what was said (X9)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from swarm.agent.models.types import Message as Said
from swarm.character import Character
from swarm.components import State
from swarm.records import Memory

EXAMPLES: Final = 4


def system_prompt(character: Character, state: State) -> str:
    """The character's own words first, then bio, topics, style and examples, then the composed context."""
    parts: list[str] = []
    if character.system:
        parts.append(character.fill(character.system))
    else:
        parts.append(f"You are {character.name}.")
    _section(parts, "About you", [character.fill(line) for line in character.bio_lines])
    _section(parts, "Background", [character.fill(line) for line in character.lore_lines])
    if character.topics:
        parts.append(f"You know about: {', '.join(character.topics)}.")
    if character.adjectives:
        parts.append(f"You are {', '.join(character.adjectives)}.")
    style = [*character.style.get("all", ()), *character.style.get("chat", ())]
    _section(parts, "How you speak", [character.fill(str(line)) for line in style])
    examples = [
        "\n".join(character.fill(f"{line.speaker}: {line.text}") for line in talk)
        for talk in character.conversations[:EXAMPLES]
    ]
    if examples:
        parts.append("Examples of how you talk:\n\n" + "\n\n".join(examples))
    if state.context:
        parts.append(f"What you know now:\n{state.context}")
    return "\n\n".join(parts)


def conversation(messages: Sequence[Memory], name: str) -> tuple[Said, ...]:
    """A room's messages, oldest first: the agent's own as the assistant's, others' as users'."""
    return tuple(
        Said("assistant" if memory.entity == name else "user", memory.content.text or " ")
        for memory in messages
    )


def _section(parts: list[str], title: str, lines: Sequence[str]) -> None:
    if lines:
        parts.append(f"{title}:\n" + "\n".join(f"- {line}" for line in lines))
