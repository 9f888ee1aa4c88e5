"""The lease: why there is one coordinator at a time, and what happens when there are two.

Any number of coordinators run; one is active. The right to be active is a row in the database with a
holder, an epoch and an end, and only the database's clock decides when it has ended: the clocks of the
machines may be wrong by minutes. The holder renews every `renew_seconds`; the others try to take the lease
every `standby_seconds`, which fails while it lasts. A new holder gets a higher epoch.

A holder can be paused (SIGSTOP, a swapping machine, a partition) past its lease without noticing, wake up,
and believe that it is still active. No check at this side can exclude that: between any check and the write
that follows there is room for a pause. So every write of the ledger takes the epoch into its own
transaction, and the database refuses it with `LeaseLost` if the epoch has moved on. That fence is what makes
two coordinators harmless; everything here only makes the state short.

What the fence does not cover are messages on the wire. There the holder goes by its own monotonic clock: when
the last renewal that worked was *sent* longer than `lease_seconds` ago, another may be active by now, whatever
the reason, so doors and outbox fall silent at once (`holds`) and it stands by. What slips through the gap
between that check and a pause does no harm: asks go to live instances, and assignments carry the epoch and
nodes ignore older ones.

While the database is away nobody can take the lease and nothing can be written; the coordinator stands by
until it is back, and the instances keep what they have in hand.

Numbers: a takeover after SIGKILL needs at most lease + standby (3.4 s), and agents say hello within
milliseconds of the roll call that follows; routing waits for stragglers `grace_seconds` (1.2 s) more.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable

from coordinator.metrics import Metrics
from coordinator.settings import CoordinatorSettings
from swarm.errors import StoreError
from swarm.failpoints import reached
from swarm.ledger import LeaseLost, Ledger

log = logging.getLogger(__name__)


class Lease:
    """One coordinator's claim to be the active one. `holder` must be new for each process."""

    def __init__(self, ledger: Ledger, settings: CoordinatorSettings, holder: str, metrics: Metrics) -> None:
        self.holder = holder
        self._ledger = ledger
        self._settings = settings
        self._metrics = metrics
        self._sent = 0.0

    async def acquire(self, stopping: asyncio.Event, fit: Callable[[], bool]) -> int | None:
        """Stand by until the lease is ours; returns the epoch, or None when `stopping` is set. Errors of the
        store are waited out, and nothing is taken while this process is not `fit` (it has no bus)."""
        waited = False
        while not stopping.is_set():
            epoch = None
            if fit():
                try:
                    epoch = await self._take()
                except (StoreError, TimeoutError) as error:
                    self._metrics.store_failures += 1
                    log.warning("The lease cannot be taken (%s); trying again.", error or "timeout")
            if epoch is not None:
                log.info("%s is the active coordinator, epoch %d.", self.holder, epoch)
                return epoch
            if not waited:
                log.info("%s stands by.", self.holder)
                waited = True
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._settings.standby_seconds):
                    await stopping.wait()
        return None

    async def keep(self, epoch: int) -> None:
        """Renew for as long as it works. Raises LeaseLost when it does not; never returns."""
        while True:
            await asyncio.sleep(self._settings.renew_seconds)
            try:
                renewed = await self._take()
            except (StoreError, TimeoutError) as error:
                if isinstance(error, LeaseLost):
                    raise
                self._metrics.store_failures += 1
                log.warning("The lease could not be renewed (%s).", error or "timeout")
                if self.seconds_left() <= 0:
                    raise LeaseLost("The lease ran out while the store could not be reached.") from error
                continue
            if renewed != epoch:
                raise LeaseLost("Another coordinator has taken the lease.")

    def holds(self) -> bool:
        """Whether we may still speak as the active one. A process that wakes from a long pause finds its
        sockets full before its timers run: this is what it asks before it takes in or sends anything."""
        return self.seconds_left() > 0

    def seconds_left(self) -> float:
        """Seconds for which nobody else can be active, by this machine's monotonic clock."""
        return self._sent + self._settings.lease_seconds - time.monotonic()

    async def release(self) -> None:
        """Let a successor start at once. Failing is fine: the lease ends by itself."""
        try:
            async with asyncio.timeout(2):
                await self._ledger.release_lease(self.holder)
        except (StoreError, TimeoutError) as error:
            log.warning("The lease was not given back (%s); it ends by itself.", error or "timeout")

    async def _take(self) -> int | None:
        reached("coordinator.lease.renew")
        sent = time.monotonic()
        async with asyncio.timeout(self._settings.lease_seconds):
            epoch = await self._ledger.take_lease(self.holder, self._settings.lease_seconds)
        if epoch is not None:
            reached("coordinator.lease.renewed")
            self._sent = sent
        return epoch
