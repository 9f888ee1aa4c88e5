"""The offline queue: what waits for agents that are not there, and what ends because its time has come.

The queue itself is the ledger's accepted rows: nothing is copied, so nothing can differ. When an agent says
hello, the router claims its rows in order, the oldest first, before anything younger. Here is only the clock:
deliveries past their time expire, tasks past their deadline fail, and their senders are told, by the
database's clock and in its transaction.
"""

from __future__ import annotations

import asyncio
import logging
import time
from typing import Any

from coordinator.metrics import Metrics
from coordinator.progress import Progress
from coordinator.router import Router
from coordinator.settings import CoordinatorSettings
from swarm.errors import StoreError
from swarm.ledger import LeaseLost, Ledger

log = logging.getLogger(__name__)


class Offline:
    def __init__(
        self,
        ledger: Ledger,
        router: Router,
        progress: Progress,
        settings: CoordinatorSettings,
        metrics: Metrics,
    ) -> None:
        self._ledger = ledger
        self._router = router
        self._progress = progress
        self._settings = settings
        self._metrics = metrics

    async def run(self) -> None:
        """End what is overdue, every `expiry_seconds`; what has waited too long, every `ageing_seconds`."""
        aged_at = float("-inf")
        while True:
            try:
                ended = await self._ledger.end_overdue()
                if time.monotonic() - aged_at >= self._settings.ageing_seconds:
                    ended += await self._ledger.end_aged()
                    aged_at = time.monotonic()
                if ended:
                    self._router.told(ended)
                    self._progress.changed()
            except LeaseLost:
                raise
            except StoreError as error:
                self._metrics.store_failures += 1
                log.warning("Overdue messages could not be ended: %s", error)
            await asyncio.sleep(self._settings.expiry_seconds)

    async def inbox(self, agent: str, limit: int = 10) -> dict[str, Any]:
        """What ``swarm inbox`` shows. Raises UnknownAgent."""
        view = await self._ledger.inbox(agent, limit=limit)
        oldest = None if view.oldest_at is None else max(0.0, round(time.time() - view.oldest_at / 1000, 3))
        return {
            "agent": view.agent,
            "waiting": view.waiting,
            "in_flight": view.in_flight,
            "bytes": view.bytes,
            "bounds": {
                "messages": view.bounds.inbox_messages,
                "bytes": view.bounds.inbox_bytes,
                "seconds": view.bounds.inbox_ms / 1000,
            },
            "oldest_at": view.oldest_at,
            "oldest_seconds": oldest,
            "first": [
                {
                    "id": message.id,
                    "from": message.sender,
                    "room": message.room,
                    "kind": message.kind,
                    "text": message.content.text,
                    "accepted_at": message.accepted_at,
                }
                for message in view.first
            ],
        }
