"""What an operator says about families: the part of `swarm.client.Swarm` that makes children and gives rights."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Unpack

from swarm.client.calls import CHANGE_SECONDS, QUERY_SECONDS, Calls
from swarm.records import NewChild

if TYPE_CHECKING:
    from swarm.spawning import ChildOptions, Source


class FamilyCalls(Calls):
    """`Swarm` has them."""

    async def spawn(
        self,
        character: Source | NewChild,
        *,
        parent: str,
        timeout: float = CHANGE_SECONDS,
        **options: Unpack[ChildOptions],
    ) -> dict[str, Any]:
        """Make a child of `parent` at run time, or find it: ``{"agent", "agent_id", "parent", "created", "ready",
        "instances", "reason"}``, when it is ready or `timeout` seconds are over. The parent needs the right to create
        children, and the child gets no right that it has not."""
        from swarm.spawning import new_child

        child = character
        if not isinstance(child, NewChild):
            child = await new_child(child, project=self._folder, **options)
        return await self._call("spawn", QUERY_SECONDS + timeout, parent=parent, child=child, timeout=timeout)

    async def remove(self, agent: str, *, timeout: float = CHANGE_SECONDS) -> dict[str, Any]:
        """As `stop`, for good: a spawned agent is taken out of the swarm. Its mail and its memories stay."""
        return await self._call("remove", QUERY_SECONDS + timeout, agent=agent, timeout=timeout)

    async def permit(self, agent: str, **rights: bool) -> dict[str, Any]:
        """Give and take rights of a spawned agent; what is taken is gone from its subtree at once:
        ``{"agent", "permissions"}``."""
        return await self._call("permit", agent=agent, rights=rights)

    async def family(self, agent: str) -> dict[str, Any]:
        """``{"agent", "parent", "children", "ancestors", "subtree"}``, all of them names."""
        return await self._call("family", agent=agent)
