"""The roll: who is called, who is missed, and what is done when somebody is gone.

At the start of a term everyone is called; later, whoever speaks without being known, and whoever has less in
hand than we believe. An instance that died reaches us in one of four ways, the fastest first: its node
reports the exit, its node no longer names it, its own goodbye, three missed beats.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from typing import Final

from bus.bus import Bus
from bus.subjects import Subjects
from coordinator.asks import Asks
from coordinator.metrics import Metrics
from coordinator.outbox import Outbox
from coordinator.placement import Placer
from coordinator.presence import Instance, Presence
from coordinator.progress import Progress
from coordinator.router import Router
from swarm.ledger import LeaseLost
from swarm.protocol import Beat, RollCall, Unresponsive

log = logging.getLogger(__name__)

LOST_AFTER: Final = 3
"""Beats in a row with less in hand than was sent, after which that counts as lost."""
BUS_LOST_SECONDS: Final = 5.0
"""So long without the bus, and the lease is given to whoever can reach it."""


class Roll:
    def __init__(
        self,
        epoch: int,
        bus: Bus,
        outbox: Outbox,
        subjects: Subjects,
        presence: Presence,
        router: Router,
        asks: Asks,
        placer: Placer,
        progress: Progress,
        metrics: Metrics,
    ) -> None:
        self._epoch = epoch
        self._bus = bus
        self._outbox = outbox
        self._subjects = subjects
        self._presence = presence
        self._router = router
        self._asks = asks
        self._placer = placer
        self._progress = progress
        self._metrics = metrics

    def call_everyone(self) -> None:
        self._outbox.control(self._subjects.all, "all", RollCall(self._epoch))
        self._metrics.roll_calls += 1

    def call(self, agent: str, instance: str) -> None:
        """Ask one instance for its hello; a known one at most once a beat."""
        known = self._presence.instances.get(instance)
        if known is not None:
            now = self._presence.clock()
            if now - known.called_at < self._presence.beat_seconds:
                return
            known.called_at = now
        self._outbox.control(self._subjects.down(agent, instance), agent, RollCall(self._epoch))
        self._metrics.roll_calls += 1

    def gone(self, agent: str, name: str, *, crashed: bool, why: str) -> None:
        """The instance is no more: its work goes to others, its askers hear so."""
        instance = self._presence.remove(agent, name)
        if instance is None:
            return
        if crashed:
            self._metrics.instances_lost += 1
            log.warning("Instance %s of %s is gone: %s.", name, agent, why)
        self._router.gone(instance, crashed=crashed)
        self._asks.gone(instance, crashed=crashed)
        self._progress.changed()

    def _end_blocked(self, silent: list[Instance]) -> None:
        """Have the nodes end and replace instances whose loop is blocked, or whose process is frozen: a single
        one would keep its agent's mail for ever. Not when most of a node is silent: then it is the machine."""
        by_node = Counter(instance.node for instance in silent)
        absent = self._presence.silent_nodes()
        for instance in silent:
            node = self._presence.nodes.get(instance.node)
            if node is None or node in absent:
                continue
            if by_node[node.name] == 1 or by_node[node.name] * 2 < len(node.instances):
                self._end(node.name, instance.agent, instance.name)

    def _end_mute(self) -> None:
        """The same for what a node has started and nobody has heard of: frozen, or stuck in its own start."""
        for node, row in self._presence.mute():
            log.warning("Instance %s of %s has not said hello in time.", row.instance, row.agent)
            self._end(node.name, row.agent, row.instance)

    def _end(self, node: str, agent: str, instance: str) -> None:
        word = Unresponsive(self._epoch, agent, instance)
        self._outbox.control(self._subjects.node_down(node), node, word)
        self._metrics.instances_blocked += 1

    def compare(self, instance: Instance, beat: Beat) -> None:
        """Whether it has in hand what we sent it: a dispatch may be lost on the wire, and so may the bell
        of its end. What was sent a moment ago is not counted."""
        sent_before = self._presence.clock() - self._presence.beat_seconds / 2
        ours = [f.delivery for f in self._router.lanes.at(instance.name) if f.sent_at < sent_before]
        has = beat.in_flight + beat.queued
        instance.mismatches = instance.mismatches + 1 if len(ours) > has else 0
        if instance.mismatches < LOST_AFTER:
            return
        instance.mismatches = 0
        if has == 0:
            self._router.lost(ours)
        else:
            self.call(instance.agent, instance.name)  # it will say which ones

    async def run(self) -> None:
        """Miss whoever is silent. Raises LeaseLost when this process has had no bus for too long."""
        step = self._presence.beat_seconds / 2
        last = self._presence.clock()
        heard_at = last
        while True:
            await asyncio.sleep(step)
            now = self._presence.clock()
            paused, last = now - last > step + self._presence.beat_seconds, now
            if self._bus.connected:
                heard_at = now
            elif now - heard_at > BUS_LOST_SECONDS:
                raise LeaseLost("The bus could not be reached; another coordinator may have better luck.")
            if paused or not self._bus.connected:
                self._presence.excuse_silence()
                continue
            silent = self._presence.silent()
            self._end_blocked(silent)
            self._end_mute()
            for instance in silent:
                # Many at once is a machine or the wire, not what one of them was working on.
                self.gone(
                    instance.agent, instance.name, crashed=len(silent) == 1, why="it has missed three beats"
                )
            for node in self._presence.silent_nodes():
                self._placer.gone(node)
                self._progress.changed()
