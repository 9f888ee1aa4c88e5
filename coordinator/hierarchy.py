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
        "permissions", "children": […]}`. An agent whose parent is gone is a root; a cycle is cut."""
        seen: set[str] = set()
        roots = [r for r in self._directory if r.parent is None or r.parent not in self._directory]
        tree = [self._node(record, seen) for record in roots]
        tree += [self._node(record, seen) for record in self._directory if record.name not in seen]
        return tree

    def _node(self, record: AgentRecord, seen: set[str]) -> dict[str, Any]:
        seen.add(record.name)
        children = [self._directory.get(name) for name in self._directory.children(record.name)]
        return {
            "name": record.name,
            "agent_id": record.id,
            "parent": record.parent,
            "status": "present" if self._presence.of(record.name) else "absent",
            "desired": record.desired,
            "roles": list(record.roles),
            "replicas": record.replicas,
            "permissions": msgspec.to_builtins(record.permissions),
            "children": [
                self._node(child, seen) for child in children if child is not None and child.name not in seen
            ],
        }

    def on_behalf_of(self, name: str | None) -> str:
        """The sender that an operator speaks as: itself, or a known agent. Raises UnknownAgent."""
        if name is None or name == OPERATOR:
            return OPERATOR
        return self._directory.named(name).name
