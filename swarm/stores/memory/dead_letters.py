"""Dead letters, as the ledger in memory shows them and deals with them."""

from __future__ import annotations

from swarm.dead_letters import DeadLetter, Requeued
from swarm.stores.checks import check_id
from swarm.stores.memory import inboxes
from swarm.stores.memory.database import MemoryDatabase


class DeadLetterPart:
    """What `MemoryLedger` has of it."""

    def _reading(self) -> MemoryDatabase:
        raise NotImplementedError

    def _writing(self) -> MemoryDatabase:
        raise NotImplementedError

    async def dead_letters(
        self, *, agent: str | None = None, limit: int = 100, settled: bool = False, oldest: bool = False
    ) -> list[DeadLetter]:
        return inboxes.dead_letters(self._reading(), agent=agent, limit=limit, settled=settled, oldest=oldest)

    async def dead_letter(self, delivery: int) -> DeadLetter | None:
        return inboxes.dead_letter(self._reading(), delivery)

    async def dead_letters_of(self, id: str, *, agent: str | None = None) -> list[DeadLetter]:
        return inboxes.dead_letters_of(self._reading(), check_id("message", id), agent=agent)

    async def requeue(self, delivery: int, id: str, by: str) -> Requeued:
        return inboxes.requeue(self._writing(), delivery, check_id("message", id), by)

    async def drop_dead(self, delivery: int, by: str) -> None:
        inboxes.drop_dead(self._writing(), delivery, by)
