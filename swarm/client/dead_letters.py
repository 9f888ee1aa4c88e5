"""What an operator says about dead letters: looked at, sent again, done with."""

from __future__ import annotations

from typing import Any

from swarm.client.calls import CHANGE_SECONDS, Calls


class DeadLetterCalls(Calls):
    """`Swarm` has them."""

    async def dead(
        self, *, agent: str | None = None, limit: int = 100, settled: bool = False
    ) -> list[dict[str, Any]]:
        """Dead letters, the newest first, of one recipient if named; with `settled` also those dealt with."""
        return await self._rows("dead_ls", agent=agent, limit=limit, all=settled)

    async def dead_letter(self, id: str, *, agent: str | None = None) -> dict[str, Any]:
        """By its delivery's number or its message's id; `agent` says whose where a message had many."""
        return await self._call("dead_show", id=id, agent=agent)

    async def requeue(self, id: str, *, agent: str | None = None) -> dict[str, Any]:
        """Send a dead letter again: ``{"id", "delivery", "requeued_as", "recipients"}``. Once only; as if its sender
        sent it now. Raises Refused."""
        return await self._call("dead_requeue", CHANGE_SECONDS, id=id, agent=agent)

    async def requeue_all(self, *, agent: str | None = None, limit: int = 100) -> dict[str, Any]:
        """``{"requeued": [...], "refused": [{"id", "delivery", "reason"}]}``, the oldest first, `limit` at most."""
        return await self._call("dead_requeue", CHANGE_SECONDS, all=True, agent=agent, limit=limit)

    async def drop(self, id: str, *, agent: str | None = None) -> dict[str, Any]:
        """Be done with a dead letter; it stays on record."""
        return await self._call("dead_drop", id=id, agent=agent)
