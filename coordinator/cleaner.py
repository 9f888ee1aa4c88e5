"""The cleaner: forgets what is over and old enough, so that the ledger does not grow for ever.

A round goes through all that could be forgotten, a small batch at a time. After each batch it rests for several
times as long as that took: whatever the ledger holds, cleaning takes a small share of one connection, and nobody
who routes ever waits for it. A term begins a round anew; a batch that is done twice finds nothing.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from typing import Final

from coordinator.metrics import Metrics
from coordinator.settings import CoordinatorSettings
from swarm.errors import StoreError
from swarm.ledger import LeaseLost, Ledger
from swarm.retention import PARTS, PrunePart

log = logging.getLogger(__name__)

BATCH: Final = 200
"""Rows visited in one transaction: some milliseconds."""
REST: Final = 9.0
"""How many times as long as a batch took it rests: so it works for a tenth of the time."""
LEAST_REST_SECONDS: Final = 0.02
FIRST_SECONDS: Final = 30.0
"""A term has better things to do at its beginning."""


class Cleaner:
    def __init__(self, ledger: Ledger, settings: CoordinatorSettings, metrics: Metrics) -> None:
        self._ledger = ledger
        self._settings = settings
        self._metrics = metrics

    async def run(self) -> None:
        """Clean for ever, a round every `clean_seconds`. Raises LeaseLost; waits out every other failure of the
        store."""
        await asyncio.sleep(min(FIRST_SECONDS, self._settings.clean_seconds))
        while True:
            try:
                gone = await self.round()
            except LeaseLost:
                raise
            except StoreError as error:
                self._metrics.store_failures += 1
                log.warning("Cleaning stopped on the way, the next round begins anew: %s", error)
            else:
                self._metrics.cleanings += 1
                if gone:
                    what = ", ".join(f"{count} {name}" for name, count in sorted(gone.items()))
                    log.info("Forgotten: %s.", what)
            await asyncio.sleep(self._settings.clean_seconds)

    async def round(self) -> dict[str, int]:
        """Once through everything; how many rows went, by what they were."""
        gone: dict[str, int] = {}
        for part in self._parts():
            after = ""
            while True:
                began = asyncio.get_running_loop().time()
                batch = await self._ledger.prune(part, self._settings.retention, after=after, most=BATCH)
                took = asyncio.get_running_loop().time() - began
                for what, count in batch.gone.items():
                    gone[what] = gone.get(what, 0) + count
                    self._metrics.pruned += count
                await asyncio.sleep(max(LEAST_REST_SECONDS, REST * took))
                if not batch.next:
                    break
                after = batch.next
        return gone

    def _parts(self) -> Iterator[PrunePart]:
        """The parts of which anything is ever forgotten, and the tally of what stays."""
        ages = self._settings.retention
        kept: dict[PrunePart, bool] = {
            "tasks": not ages.tasks,
            "messages": not (ages.messages or ages.announcements or ages.notices or ages.dead),
            "unheard": not ages.announcements,
            "memories": not (ages.memories or ages.memories_of),
            "tally": False,
        }
        return (part for part in PARTS if not kept[part])
