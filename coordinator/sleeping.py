"""Sleeping: an agent that may sleep (`sleep_after`) stops when it has had nothing to do for so long, and the next
message starts it: mail in the ledger, or an ask, which waits for the start.

Asleep is written in the ledger, in the transaction that finds nothing open, so that a successor starts nobody who
sleeps and a message that is accepted a moment later finds a sleeper to wake. Whoever is asleep costs a row: bells
and sweeps name those that have mail, nobody asks the others.
"""

from __future__ import annotations

import asyncio
import logging
import time
from dataclasses import dataclass
from typing import Final

from bus.envelope import Envelope
from bus.errors import BusError
from coordinator.asks import Asks
from coordinator.directory import Directory
from coordinator.placement import Placer
from coordinator.presence import Presence
from coordinator.progress import Progress
from coordinator.rolling import Rolling
from coordinator.router import Router
from swarm.errors import StoreError, UnknownAgent
from swarm.ledger import LeaseLost, Ledger
from swarm.records import AgentRecord

log = logging.getLogger(__name__)

LOOK_SECONDS: Final = 0.5
RETRY_SECONDS: Final = 0.5


@dataclass(slots=True)
class Idle:
    """Since when an agent has had nothing to do, and what its instances had done by then."""

    since: float
    turns: tuple[tuple[str, int], ...] = ()


class Sleeping:
    def __init__(
        self,
        ledger: Ledger,
        directory: Directory,
        presence: Presence,
        router: Router,
        placer: Placer,
        progress: Progress,
        asks: Asks,
        rolling: Rolling,
        ask_seconds: float,
    ) -> None:
        self._ledger = ledger
        self._directory = directory
        self._presence = presence
        self._router = router
        self._placer = placer
        self._progress = progress
        self._asks = asks
        self._rolling = rolling
        self._ask_seconds = ask_seconds
        self._idle: dict[str, Idle] = {}
        self._called: set[str] = set()
        """Sleepers that have mail, or an ask."""
        self._rung: set[str] = set()
        """Who got mail since we last decided who may sleep."""
        self._wake = asyncio.Event()

    # ── waking ────────────────────────────────────────────────────────────────────────────────────
    def rang(self, agent: str) -> None:
        """There may be mail for it. Only a note: bells do not wait."""
        record = self._directory.get(agent)
        if record is None or record.sleep_after is None or record.desired != "running":
            return
        self._rung.add(agent)
        if record.asleep:
            self._called.add(agent)
            self._wake.set()

    def awaits(self, ask: Envelope, sender: str) -> list[str]:
        """Those of whom this ask may wait for the start: sleepers, those that just start, and an instance that is
        being replaced. Nobody when one of the asked is ready, or when the ask is wrong, which `Asks` says."""
        try:
            names = self._directory.whom_to_ask(sender, ask.to)
        except (BusError, UnknownAgent):
            return []
        if any(self._presence.ready(name) for name in names):
            return []
        return [name for name in names if self._may_come(name)]

    async def start(self, names: list[str], ask: Envelope) -> None:
        """Wake one of these if none is awake; returns when one is ready, when that cannot be, or at the deadline."""
        if all(record.asleep for name in names if (record := self._directory.get(name)) is not None):
            self.rang(names[0])
        left = self._ask_seconds if ask.deadline is None else ask.deadline / 1000 - time.time()

        async def look() -> bool:
            return any(self._presence.ready(name) for name in names) or not any(map(self._may_come, names))

        await self._progress.until(look, bool, min(left, self._ask_seconds))

    def _may_come(self, agent: str) -> bool:
        record = self._directory.get(agent)
        if record is None or record.desired != "running" or not record.replicas:
            return False
        if any(row.status == "quarantined" for _, row in self._presence.node_rows(agent)):
            return False
        return record.sleep_after is not None or self._rolling.replaces(agent)

    # ── the loop ──────────────────────────────────────────────────────────────────────────────────
    async def run(self) -> None:
        """Wakes at once and looks for idle ones every LOOK_SECONDS. Raises LeaseLost."""
        while True:
            try:
                async with asyncio.timeout(LOOK_SECONDS):
                    await self._wake.wait()
            except TimeoutError:
                pass
            self._wake.clear()
            try:
                await self.wake_called()
                await self.let_sleep(self._presence.clock())
            except LeaseLost:
                raise
            except StoreError as error:
                log.warning("Nobody falls asleep or wakes while the store does not answer: %s", error)
                await asyncio.sleep(RETRY_SECONDS)
                self._wake.set()

    async def wake_called(self) -> None:
        names = sorted(self._called)
        if not names:
            return
        await self._ledger.wake(names)
        self._called.difference_update(names)
        await self._directory.amend(names, asleep=False)
        log.info("%s %s", ", ".join(names), "wakes" if len(names) == 1 else "wake")
        self._placer.converge()

    async def let_sleep(self, now: float) -> None:
        """Whoever has been idle for long enough, and has nothing open in the ledger."""
        present = {one.agent for one in self._presence.instances.values()}
        records = [record for name in present if (record := self._directory.get(name)) is not None]
        sleepers = [one for one in records if one.sleep_after is not None and one.wanted]
        self._idle = {one.name: self._idle.get(one.name, Idle(now)) for one in sleepers}
        due = [one.name for one in sleepers if self._is_due(one, now)]
        if not due:
            return
        self._rung.clear()
        names = await self._ledger.put_to_sleep(due)
        for name in due:
            self._idle[name].since = now  # who has something open is asked again when it was idle as long
        if not names:
            return
        await self._directory.amend(names, asleep=True)
        log.info("%s %s", ", ".join(names), "falls asleep" if len(names) == 1 else "fall asleep")
        self._placer.converge()
        for name in self._rung.intersection(names):  # its mail came between the ledger's look and ours
            self.rang(name)

    def _is_due(self, record: AgentRecord, now: float) -> bool:
        idle = self._idle[record.name]
        instances = sorted(self._presence.of(record.name).values(), key=lambda one: one.name)
        turns = tuple((one.name, 0 if one.beat is None else one.beat.turns) for one in instances)
        busy = bool(self._router.places.held(record.name)) or any(
            one.status != "ready"
            or one.beat is None
            or one.beat.in_flight + one.beat.queued + self._router.places.load(one)
            for one in instances
        )
        if busy or turns != idle.turns:
            idle.since, idle.turns = now, turns
        since = max(idle.since, self._asks.asked_at(record.name))
        return record.sleep_after is not None and now - since >= record.sleep_after
