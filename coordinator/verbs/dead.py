"""Dead letters: list, show, requeue, drop."""

from __future__ import annotations

from typing import Any

from bus.errors import Refused
from coordinator.dead_letters import DeadLetters
from coordinator.hierarchy import Hierarchy
from coordinator.verbs.verb import Args, Limit, Verbs


class DeadListArgs(Args):
    agent: str | None = None
    limit: Limit = 100
    all: bool = False


class DeadArgs(Args):
    id: str
    agent: str | None = None


class RequeueArgs(Args):
    id: str | None = None
    agent: str | None = None
    all: bool = False
    limit: Limit = 100


class Dead:
    def __init__(self, letters: DeadLetters, hierarchy: Hierarchy) -> None:
        self._letters = letters
        self._hierarchy = hierarchy

    def verbs(self) -> Verbs:
        return {
            "dead_ls": (DeadListArgs, self.dead_ls),
            "dead_show": (DeadArgs, self.dead_show),
            "dead_requeue": (RequeueArgs, self.dead_requeue),
            "dead_drop": (DeadArgs, self.dead_drop),
        }

    async def dead_ls(self, args: DeadListArgs) -> list[dict[str, Any]]:
        """Also those of an agent that is no longer in the swarm. Raises UnknownAgent for one that never was."""
        letters = await self._letters.list(args.agent, args.limit, settled=args.all)
        if not letters:
            self._hierarchy.on_behalf_of(args.agent)
        return letters

    async def dead_show(self, args: DeadArgs) -> dict[str, Any]:
        return await self._letters.show(args.id, args.agent)

    async def dead_requeue(self, args: RequeueArgs) -> dict[str, Any]:
        """One, or with `all` as many as `limit` says; see `DeadLetters`."""
        if args.all:
            return await self._letters.requeue_all(args.agent, args.limit)
        if args.id is None:
            raise Refused("dead_requeue takes an id, or all.", reason="usage")
        return await self._letters.requeue(args.id, args.agent)

    async def dead_drop(self, args: DeadArgs) -> dict[str, Any]:
        return await self._letters.drop(args.id, args.agent)
