"""What an agent is, and how to write one. The public names, imported when first used.

Importing this package costs nothing but itself, so that a command line or a process that needs one
name does not pay for all of them.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from swarm.agent.runtime import AgentRuntime
    from swarm.character import Character, load_character
    from swarm.components import Action, ActionResult, Evaluator, Provider, Service
    from swarm.plugin import Plugin

_HOMES = {
    "Action": "swarm.components",
    "ActionResult": "swarm.components",
    "AgentRuntime": "swarm.agent.runtime",
    "Character": "swarm.character",
    "Evaluator": "swarm.components",
    "Plugin": "swarm.plugin",
    "Provider": "swarm.components",
    "Service": "swarm.components",
    "load_character": "swarm.character",
}

__all__ = [
    "Action",
    "ActionResult",
    "AgentRuntime",
    "Character",
    "Evaluator",
    "Plugin",
    "Provider",
    "Service",
    "load_character",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'swarm' has no attribute {name!r}")
    value = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value
    return value
