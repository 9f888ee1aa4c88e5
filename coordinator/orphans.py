"""Orphans: what becomes of the children of an agent that is dead.

Dead is who was stopped, or taken out of the swarm, or whose every slot is quarantined. Who restarts, is on its way
to another node or has missed its beats is not: absence alone proves nothing. It lives again when one of its
instances is ready. Both are written once (`agents.died_at`), so that a takeover repeats nothing and what an
operator says of an orphan afterwards stands.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from typing import Final

from coordinator.directory import Directory
from coordinator.placement import Placer
from coordinator.presence import Presence
from coordinator.running import Running
from swarm.errors import StoreError
from swarm.ledger import LeaseLost, Ledger
from swarm.records import AgentRecord

log = logging.getLogger(__name__)

LOOK_SECONDS: Final = 0.5


class Orphans:
    def __init__(
        self, ledger: Ledger, directory: Directory, presence: Presence, placer: Placer, running: Running
    ) -> None:
        self._ledger = ledger
        self._directory = directory
        self._presence = presence
        self._placer = placer
        self._running = running

    async def run(self) -> None:
        while True:
            try:
                while await self.settle():
                    pass  # a child that stopped may be a parent itself
            except LeaseLost:
                raise
            except StoreError as error:
                log.warning("A parent's death could not be dealt with (%s); trying again.", error)
            await asyncio.sleep(LOOK_SECONDS)

    async def settle(self) -> bool:
        """Deal with whoever died or came back since the last time. Whether anything has changed."""
        quarantined = Counter(
            row.agent
            for node in self._presence.nodes.values()
            for row in node.instances
            if row.status == "quarantined"
        )
        changed = False
        for record in list(self._directory):
            if self._has_returned(record):
                names = await self._ledger.settle_return(record.name)
                _say(record, "lives again: %s start with it", names)
            elif self._has_died(record, quarantined[record.name]):
                names = await self._ledger.settle_death(record.name)
                _say(record, f"is dead, and its orphans are to {record.orphans}: %s", names)
                for name in names if record.orphans == "stop" else ():
                    self._running.drain(name)
            else:
                continue
            changed = True
        if changed:
            await self._directory.refresh()
            self._placer.converge()
        return changed

    def _has_returned(self, record: AgentRecord) -> bool:
        return (
            record.died_at is not None
            and record.desired == "running"
            and bool(self._presence.ready(record.name))
        )

    def _has_died(self, record: AgentRecord, quarantined: int) -> bool:
        if record.died_at is not None or not self._directory.children(record.name):
            return False
        lost = 0 < record.replicas <= quarantined and not self._presence.of(record.name)
        return record.desired == "stopped" or lost


def _say(record: AgentRecord, text: str, names: list[str]) -> None:
    if names:
        log.warning("%s " + text, record.name, ", ".join(names))
