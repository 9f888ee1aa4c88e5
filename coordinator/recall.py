"""Recall: tasks that were ended while an instance has them in hand, and tasks whose moment has come.

What the ledger has ended (cancelled, past its deadline, the task above it over) writes nothing any more; here the
handler that still works on it is told so. Who ended it may have been an agent, in the database, and the word of it
may be lost; so the ledger is asked about everything in flight: when somebody says that there is something to recall,
and at every sweep. An instance is told again until it rings that it is done.
"""

from __future__ import annotations

import asyncio
import logging
from itertools import groupby
from typing import Final

from bus.subjects import Subjects
from coordinator.metrics import Metrics
from coordinator.outbox import Outbox
from coordinator.progress import Progress
from coordinator.router import Router
from coordinator.settings import CoordinatorSettings
from swarm.errors import StoreError
from swarm.ledger import LeaseLost, Ledger
from swarm.protocol import Cancel

log = logging.getLogger(__name__)

LOOK_SECONDS: Final = 0.05
"""Hints that come closer together are one look."""


class Recall:
    def __init__(
        self,
        ledger: Ledger,
        router: Router,
        outbox: Outbox,
        subjects: Subjects,
        progress: Progress,
        settings: CoordinatorSettings,
        metrics: Metrics,
    ) -> None:
        self._ledger = ledger
        self._router = router
        self._outbox = outbox
        self._subjects = subjects
        self._progress = progress
        self._settings = settings
        self._metrics = metrics

    async def run(self) -> None:
        """Look at every sweep, and when the router was told of something to recall."""
        while True:
            self._router.recall.clear()
            try:
                await self._wake()
                await self._look()
            except LeaseLost:
                raise
            except StoreError as error:
                self._metrics.store_failures += 1
                log.warning("Nothing could be recalled: %s", error)
            await asyncio.sleep(LOOK_SECONDS)
            try:
                async with asyncio.timeout(self._settings.expiry_seconds):
                    await self._router.recall.wait()
            except TimeoutError:
                continue

    async def _wake(self) -> None:
        if names := await self._ledger.wake_tasks():
            self._router.ring(names)
            self._progress.changed()

    async def _look(self) -> None:
        flights = {flight.delivery: flight for flight in self._router.lanes.tasks()}
        if not flights:
            return
        ended = await self._ledger.ended_of(sorted(flights))
        words = sorted((flights[one].agent, flights[one].instance, why, one) for one, why in ended.items())
        for (agent, instance, why), group in groupby(words, key=lambda word: word[:3]):
            deliveries = tuple(word[3] for word in group)
            log.info("%s is told that %d of its tasks are over: %s", instance, len(deliveries), why)
            self._outbox.control(
                self._subjects.down(agent, instance), agent, Cancel(deliveries[:1000], why[:2000])
            )
            self._metrics.recalled += len(deliveries)
