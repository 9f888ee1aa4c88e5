"""Whether the sections agree with each other: names, parents, rights, groups. What one key alone cannot say."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any, Final

from bus.permissions import role_of_name
from swarm.config.sections import SLUG, SwarmConfig
from swarm.errors import near
from swarm.records import RESERVED_NAMES, AgentPermissions

_PERMISSIONS: Final = AgentPermissions.__struct_fields__


def bad_names(agents: Mapping[str, Any]) -> Iterator[str]:
    for name in agents:
        if not re.fullmatch(SLUG, name):
            yield (
                f"agents.{name}: a name must be lower-case letters, digits, - and _, at most 63, "
                "and begin with a letter or digit."
            )
        elif name in RESERVED_NAMES or role_of_name(name) != "agent":
            yield f"agents.{name}: this name is reserved; choose another."


def disagreements(config: SwarmConfig) -> Iterator[str]:
    """What is wrong between the agents of a file in which each alone is right."""
    yield from bad_names(config.agents)
    yield from config.retention.ages().why_not()
    for name in config.retention.memories_of:
        if name not in config.agents:
            yield f"retention.memories_of.{name}: there is no agent {name!r}{near(name, config.agents)}"
    for name, agent in config.agents.items():
        if (scale := agent.scale) is not None:
            if scale.min > scale.max:
                yield f"agents.{name}.scale: min is {scale.min} and max {scale.max}; min must not be above max."
            elif not scale.min <= config.replicas_of(name) <= scale.max:
                yield (
                    f"agents.{name}.replicas is {agent.replicas}, outside of what scale allows "
                    f"({scale.min} to {scale.max}); leave it out to begin with {scale.min}."
                )
        if agent.parent is None:
            continue
        if agent.parent not in config.agents:
            yield f"agents.{name}.parent: there is no agent {agent.parent!r}{near(agent.parent, config.agents)}"
            continue
        chain = _ancestors(config, name)
        if name in chain:
            yield f"agents.{name}.parent: {' → '.join([name, *chain])} is a circle; one of them must be a root."
            continue
        if len(chain) > config.limits.depth:
            yield f"agents.{name} is {len(chain)} generations below its root; limits.depth is {config.limits.depth}."
        yield from _excess(config, name, agent.parent)
    yield from _bad_groups(config)
    for parent, children in Counter(agent.parent for agent in config.agents.values()).items():
        if parent is not None and children > config.limits.children:
            yield f"agents.{parent} has {children} children; limits.children is {config.limits.children}."


def _bad_groups(config: SwarmConfig) -> Iterator[str]:
    for group, members in config.groups.items():
        if not re.fullmatch(SLUG, group):
            yield (
                f"groups.{group}: a name must be lower-case letters, digits, - and _, at most 63, "
                "and begin with a letter or digit."
            )
        for member in members:
            if member not in config.agents:
                yield f"groups.{group}: there is no agent {member!r}{near(member, config.agents)}"


def _ancestors(config: SwarmConfig, name: str) -> list[str]:
    """Parent, grandparent, …; ends at a root, at an unknown parent, or when a name comes again."""
    chain: list[str] = []
    above = config.agents[name].parent
    while above is not None and above in config.agents and above not in chain:
        chain.append(above)
        above = config.agents[above].parent
    return chain


def _excess(config: SwarmConfig, name: str, parent: str) -> Iterator[str]:
    own, given = config.agents[name].permissions, config.agents[parent].permissions
    for right in _PERMISSIONS:
        if right in ("access_parent_memory", "announce"):
            above = (config.agents[each].permissions for each in _ancestors(config, name))
            excess = getattr(own, right) is True and any(getattr(each, right) is False for each in above)
        else:
            excess = getattr(own, right) and not getattr(given, right)
        if excess:
            yield f"agents.{name}.permissions.{right}: its parent {parent} does not have this right to give."
