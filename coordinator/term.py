"""A term: from taking the lease to losing it. All that a coordinator knows lives exactly as long.

A new term starts with nothing and learns everything: agents from the ledger, instances and nodes from the
roll call. So a takeover and a start are the same thing, and nothing stale survives a lost lease.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Coroutine
from typing import Any

from bus.bus import Bus, Subscription
from bus.errors import BusError
from bus.subjects import Subjects
from coordinator.asks import Asks
from coordinator.broadcast import Broadcast
from coordinator.cleaner import Cleaner
from coordinator.control import Control
from coordinator.dead_letters import DeadLetters
from coordinator.delegation import Delegation
from coordinator.diagnosis import Diagnosis
from coordinator.directory import Directory
from coordinator.doors import Doors
from coordinator.hierarchy import Hierarchy
from coordinator.lease import Lease
from coordinator.metrics import Metrics
from coordinator.offline import Offline
from coordinator.orphans import Orphans
from coordinator.outbox import Outbox
from coordinator.placement import Placer
from coordinator.presence import Presence
from coordinator.progress import Progress
from coordinator.recall import Recall
from coordinator.requests import Requests
from coordinator.roll import Roll
from coordinator.rolling import Rolling
from coordinator.router import Router
from coordinator.running import Running
from coordinator.scaling import Scaling
from coordinator.settings import CoordinatorSettings
from coordinator.sleeping import Sleeping
from coordinator.spawning import Spawning
from coordinator.storms import Storms
from coordinator.verbs.dead import Dead
from coordinator.verbs.family import FamilyVerbs
from coordinator.verbs.looking import Looking
from coordinator.verbs.mail import Mail
from coordinator.verbs.running import RunningVerbs
from coordinator.verbs.saying import Saying
from coordinator.verbs.tasks import Tasks
from swarm.errors import StoreError
from swarm.ledger import LeaseLost, Ledger
from swarm.tracing.tracer import UNTRACED, Tracer

log = logging.getLogger(__name__)


class Term:
    """The rooms of one term, in the order in which they need each other."""

    def __init__(
        self,
        bus: Bus,
        ledger: Ledger,
        settings: CoordinatorSettings,
        metrics: Metrics,
        lease: Lease,
        epoch: int,
        tracer: Tracer = UNTRACED,
    ) -> None:
        self._bus = bus
        self._ledger = ledger
        self._settings = settings
        self._metrics = metrics
        self._requests = Requests()
        self.epoch = epoch
        subjects = Subjects(settings.swarm)
        self._subjects = subjects
        self.routing = asyncio.Event()
        """Set when the doors are open."""
        self.outbox = outbox = Outbox(bus, metrics, lease.holds, tracer)
        self.progress = progress = Progress()
        self.directory = directory = Directory(ledger)
        self.presence = presence = Presence(settings.beat_seconds, hello_seconds=settings.hello_seconds)
        self.router = router = Router(ledger, outbox, subjects, directory, presence, settings, metrics)
        storms = Storms(ledger, metrics)
        self.asks = asks = Asks(outbox, subjects, directory, router, storms, metrics, settings.ask_seconds)
        self.offline = offline = Offline(ledger, router, progress, settings, metrics)
        self.recall = Recall(ledger, router, outbox, subjects, progress, settings, metrics)
        self.cleaner = Cleaner(ledger, settings, metrics)
        self.placer = placer = Placer(epoch, outbox, subjects, directory, presence, metrics)
        self.roll = roll = Roll(
            epoch, bus, outbox, subjects, presence, router, asks, placer, progress, metrics
        )
        self.rolling = rolling = Rolling(directory, presence, router, placer)
        placer.before.append(rolling.note_versions)
        self.scaling = scaling = Scaling(ledger, directory, presence, router, placer, progress)
        self.sleeping = sleeping = Sleeping(
            ledger, directory, presence, router, placer, progress, asks, rolling, settings.ask_seconds
        )
        router.on_ring.append(sleeping.rang)
        hierarchy = Hierarchy(directory, presence)
        broadcast = Broadcast(ledger, router, progress)
        delegation = Delegation(ledger, router, progress)
        self.running = running = Running(ledger, directory, presence, router, placer, rolling, progress)
        spawning = Spawning(ledger, directory, placer, running)
        self.orphans = Orphans(ledger, directory, presence, placer, running)
        diagnosis = Diagnosis(bus, subjects, directory, presence)
        looking = Looking(
            epoch, lease.holder, ledger, directory, presence, router, hierarchy, running, diagnosis, storms,
            metrics,
        )  # fmt: skip
        self.control = control = Control(
            outbox,
            [
                looking.verbs(),
                Saying(bus, ledger, router, asks, broadcast, hierarchy, sleeping).verbs(),
                Mail(ledger, directory, offline).verbs(),
                Dead(DeadLetters(ledger, router), hierarchy).verbs(),
                Tasks(delegation, hierarchy).verbs(),
                RunningVerbs(directory, running, scaling).verbs(),
                FamilyVerbs(ledger, directory, spawning).verbs(),
            ],
        )
        self.doors = Doors(
            epoch, ledger, outbox, subjects, directory, presence, router, asks, roll, placer, control,
            spawning, sleeping, progress, metrics, self._requests, lease.holds,
        )  # fmt: skip

    async def run(self, stopping: asyncio.Event) -> None:
        """Serve until `stopping`, then leave in good order. Raises LeaseLost (in a group) at the first sign
        of it, with everything stopped; cancelling stops at once, too."""
        await self._read_directory()
        parts: list[Coroutine[Any, Any, None]] = [
            self.outbox.run(),
            self.router.run(),
            self.router.sweep(),
            self.router.settle_all(),
            self._open_placement(),
            self.offline.run(),
            self.recall.run(),
            self.cleaner.run(),
            self.roll.run(),
            self.orphans.run(),
            self.rolling.run(),
            self.scaling.run(),
            self.sleeping.run(),
        ]
        subscriptions: list[Subscription] = []
        try:
            async with asyncio.TaskGroup() as group:
                self._requests.group = group
                tasks = [group.create_task(part) for part in parts]
                subscribe, subjects = self._bus.subscribe, self._subjects
                subscriptions.append(await subscribe(subjects.every_up, self.doors.from_agent))
                subscriptions.append(await subscribe(subjects.every_node_up, self.doors.from_node))
                subscriptions.append(await subscribe(subjects.every_ctl, self.doors.from_operator))
                self.roll.call_everyone()
                self.routing.set()
                await stopping.wait()
                for subscription in subscriptions:
                    await subscription.stop()
                for task in tasks[1:]:
                    task.cancel()
                with contextlib.suppress(StoreError, TimeoutError):
                    async with asyncio.timeout(2):
                        await self.router.give_up()
                        await self.outbox.flush()
                tasks[0].cancel()
        finally:
            self._requests.group = None
            for subscription in subscriptions:
                with contextlib.suppress(BusError):
                    await subscription.stop()

    async def _read_directory(self) -> None:
        while True:
            try:
                await self.directory.refresh()
            except LeaseLost:
                raise
            except StoreError as error:
                log.warning("The directory could not be read (%s); trying again.", error)
                await asyncio.sleep(0.2)
            else:
                return

    async def _open_placement(self) -> None:
        await asyncio.sleep(self._settings.grace_seconds)
        self.placer.open()
        self.rolling.adopt()
