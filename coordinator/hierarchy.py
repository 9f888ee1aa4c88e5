"""The hierarchy: who is whose parent, and on whose behalf an operator may speak.

Authority over a child is decided by the ledger, in the transaction that accepts a task; what is here is the
tree that people see and the check of a name that an operator speaks for.
"""

from __future__ import annotations

from typing import Any

import msgspec

from coordinator.directory import Directory
from coordinator.presence import Presence
from swarm.records import OPERATOR, AgentRecord


class Hierarchy:
    def __init__(self, directory: Directory, presence: Presence) -> None:
        self._directory = directory
        self._presence = presence

    def tree(self) -> list[dict[str, Any]]:
        """The roots with their children: `{"name", "agent_id", "status", "desired", "roles", "replicas",
        "permissions", "orphans", "spawned", "children": […]}`. An agent whose parent is gone is a root; a cycle is
        cut."""
        seen: set[str] = set()
        known = [record for record in self._directory if not _is_removed(record)]
        roots = [r for r in known if r.parent is None or r.parent not in self._directory]
        tree = [self._node(record, seen) for record in roots]
        tree += [self._node(record, seen) for record in known if record.name not in seen]
        return tree

    def _node(self, record: AgentRecord, seen: set[str]) -> dict[str, Any]:
        seen.add(record.name)
        children = [self._directory.get(name) for name in self._directory.children(record.name)]
        return {
            "name": record.name,
            "agent_id": record.id,
            "parent": record.parent,
            "status": "present"
            if self._presence.of(record.name)
            else "asleep"
            if record.asleep
            else "absent",
            "desired": record.desired,
            "roles": list(record.roles),
            "replicas": record.replicas,
            "permissions": msgspec.to_builtins(record.permissions),
            "orphans": record.orphans,
            "spawned": record.birth is not None,
            "children": [
                self._node(child, seen)
                for child in children
                if child is not None and child.name not in seen and not _is_removed(child)
            ],
        }

    def on_behalf_of(self, name: str | None) -> str:
        """The sender that an operator speaks as: itself, or a known agent. Raises UnknownAgent."""
        if name is None or name == OPERATOR:
            return OPERATOR
        return self._directory.named(name).name


def _is_removed(record: AgentRecord) -> bool:
    """Made at run time and taken out again: nobody looks for it in the tree."""
    return record.birth is not None and not record.planned
