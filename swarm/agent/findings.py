"""What evaluators found, written for several turns at once: nobody waits for it, and a transaction for each costs a
third of a turn on Postgres. So the first waits a moment for company. What is not written when the process dies is
lost, as what its evaluators had not ended with is (docs/design.md).
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from bus.errors import Refused
from swarm.errors import StoreDown, StoreError, Unknown
from swarm.records import Memory, Turn

if TYPE_CHECKING:
    from swarm.agent.runtime import AgentRuntime

log = logging.getLogger(__name__)

MOMENT: Final = 0.05
"""Seconds that the first of a batch waits for others."""
FULL: Final = 32
"""Turns with which a batch waits no longer."""
MOST: Final = 256
"""Turns that may wait while the store is slow; what evaluators find then is dropped, counted and logged."""

Found = tuple[Memory, ...]


class Findings:
    """One agent's. The runtime owns the task that writes, and ends it at its stop."""

    def __init__(self, runtime: AgentRuntime) -> None:
        self._runtime = runtime
        self._waiting: list[Found] = []
        self._full = asyncio.Event()
        self._writing = False

    def add(self, found: Found) -> None:
        """Have it written soon. One turn's is written whole or not at all, and none fails by another's."""
        if len(self._waiting) >= MOST:
            self._lost("too much waits to be written")
            return
        self._waiting.append(found)
        if len(self._waiting) >= FULL:
            self._full.set()
        if not self._writing:
            self._writing = self._runtime.in_background(self._empty(), "findings")

    async def _empty(self) -> None:
        try:
            while self._waiting:
                with suppress(TimeoutError):
                    async with asyncio.timeout(MOMENT):
                        await self._full.wait()
                batch, self._waiting = self._waiting[:FULL], self._waiting[FULL:]
                self._full.clear()
                await self._write(batch)
        finally:
            self._writing = False

    async def _write(self, batch: list[Found]) -> None:
        memories = tuple(memory for found in batch for memory in found)
        turn = Turn(delivery=None, instance=self._runtime.instance, memories=memories)
        try:
            await self._runtime.adapter.commit(turn)
        except (StoreError, Refused) as error:
            if len(batch) > 1 and not isinstance(error, (StoreDown, Unknown)):
                for found in batch:
                    await self._write([found])
            else:
                self._lost(str(error))
            return
        self._runtime.embeddings.wake(memories)

    def _lost(self, why: str) -> None:
        log.warning("what evaluators found is lost: %s", why)
        self._runtime.metrics.count_failure("store", "after the turn")
