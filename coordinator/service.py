"""The coordinator: stand by, be active for a term, stand by again. The list of its rooms:

lease        who is active                     term         the rooms, wired
directory    agents and addresses              presence     instances and nodes that live
roll         who is called and missed          doors        what comes in
router       rows to instances                 places       what is held, and where it goes
lanes        what is in flight, and where      balance      which replica
outbox       what goes out                     progress     waiting for what happens
asks         questions and their end           offline      what waits and expires
broadcast    announcements and reports         hierarchy    the tree
delegation   tasks                             placement    which node runs what
running      ps, stop, start, restart          control      operators' requests
requests     how many at once, and whose       orphans      the children of the dead
verbs/       what operators can have done      diagnosis    how an instance says it is
families     metrics of the whole swarm        storms       who answers whom without end
cleaner      what is over and old              spawning     children made at run time
rolling      fresh processes, one at a time    fitting      which node a slot fits on
dead_letters what ended badly, and again       recall       the word that a task is over
pushing      metrics that are sent off
scaling      how many, and by whom             sleeping     who is idle stops, and wakes for mail
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket

from bus.bus import Bus
from bus.errors import Disconnected
from coordinator.lease import Lease
from coordinator.metrics import Metrics
from coordinator.settings import CoordinatorSettings
from coordinator.term import Term
from swarm.ids import new_id
from swarm.ledger import LeaseLost, Ledger
from swarm.tracing.tracer import UNTRACED, Tracer

log = logging.getLogger(__name__)


class Coordinator:
    """One coordinator process. It owns neither bus nor ledger: whoever opened them closes them."""

    def __init__(
        self,
        bus: Bus,
        ledger: Ledger,
        settings: CoordinatorSettings,
        *,
        stopping: asyncio.Event | None = None,
        tracer: Tracer = UNTRACED,
    ) -> None:
        self._bus = bus
        self._ledger = ledger
        self._settings = settings
        self._tracer = tracer
        self.metrics = Metrics()
        self.holder = settings.holder or f"{socket.gethostname()}-{os.getpid()}-{new_id()[-8:]}"
        self.term: Term | None = None
        """What is known in the current term; None while standing by."""
        self._stopping = stopping or asyncio.Event()
        self._lease = Lease(ledger, settings, self.holder, self.metrics)

    def stop(self) -> None:
        """Leave in good order; `run` returns soon after."""
        self._stopping.set()

    @property
    def active(self) -> bool:
        return self.term is not None and self.term.routing.is_set()

    async def run(self) -> None:
        """Stand by and be active in turn, until `stop`. Raises Disconnected (in a group) when the bus has
        ended for good. What the rooms raise unforeseen comes out here: a fresh process is the remedy."""
        async with asyncio.TaskGroup() as group:
            watch = group.create_task(self._watch_bus())
            while not self._stopping.is_set():
                epoch = await self._lease.acquire(self._stopping, lambda: self._bus.connected)
                if epoch is not None:
                    await self._serve(epoch)
            watch.cancel()

    async def _serve(self, epoch: int) -> None:
        self.term = term = Term(
            self._bus, self._ledger, self._settings, self.metrics, self._lease, epoch, self._tracer
        )
        self.metrics.terms += 1
        lost = False
        try:
            async with asyncio.TaskGroup() as group:
                keeper = group.create_task(self._lease.keep(epoch))
                await term.run(self._stopping)
                keeper.cancel()
        except* LeaseLost as group_of_errors:
            lost = True
            log.warning("%s stands down: %s", self.holder, _first(group_of_errors))
        finally:
            self.term = None
        if lost:
            self.metrics.leases_lost += 1
        await self._lease.release()

    async def _watch_bus(self) -> None:
        await self._bus.wait_closed()
        raise Disconnected("The coordinator's connection to the bus has ended for good; start it again.")


def _first(group: BaseExceptionGroup[BaseException]) -> BaseException:
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
