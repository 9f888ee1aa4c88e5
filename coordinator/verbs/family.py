"""The hierarchy as operators change it: spawn a child, remove it, give and take its rights."""

from __future__ import annotations

from typing import Any

import msgspec

from coordinator.directory import Directory
from coordinator.spawning import Spawning
from coordinator.verbs.verb import Args, Verbs, Wait
from swarm.ledger import Ledger
from swarm.records import NewChild


class SpawnArgs(Args):
    parent: str
    child: NewChild
    timeout: Wait = 30.0


class RemoveArgs(Args):
    agent: str
    timeout: Wait = 30.0


class PermitArgs(Args):
    agent: str
    rights: dict[str, bool]


class FamilyArgs(Args):
    agent: str


class FamilyVerbs:
    def __init__(self, ledger: Ledger, directory: Directory, spawning: Spawning) -> None:
        self._ledger = ledger
        self._directory = directory
        self._spawning = spawning

    def verbs(self) -> Verbs:
        return {
            "spawn": (SpawnArgs, self.spawn),
            "remove": (RemoveArgs, self.remove),
            "permit": (PermitArgs, self.permit),
            "family": (FamilyArgs, self.family),
        }

    async def spawn(self, args: SpawnArgs) -> dict[str, Any]:
        """`{"agent", "agent_id", "parent", "created", "ready", "instances", "reason"}`. The parent must have the right
        to create children, whoever asks."""
        return await self._spawning.spawn(args.parent, args.child, args.timeout)

    async def remove(self, args: RemoveArgs) -> dict[str, Any]:
        """`{"agent", "stopped", "instances"}`."""
        return await self._spawning.remove(None, args.agent, args.timeout)

    async def permit(self, args: PermitArgs) -> dict[str, Any]:
        """`{"agent", "permissions"}`: what it may do now."""
        await self._spawning.permit(args.agent, args.rights)
        record = self._directory.named(args.agent)
        return {"agent": record.name, "permissions": msgspec.to_builtins(record.permissions)}

    async def family(self, args: FamilyArgs) -> dict[str, Any]:
        """`{"agent", "parent", "children", "ancestors", "subtree"}`, all of them names."""
        name = self._directory.named(args.agent).name
        family: dict[str, Any] = msgspec.to_builtins(await self._ledger.family(name))
        return {"agent": name} | family
