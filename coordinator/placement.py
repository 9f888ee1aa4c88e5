"""Placement: which node runs which instances.

Wanted are slots 1 … `wanted` of every agent: its replicas, none when it is stopped or asleep. Each node is
sent all that it should run, and makes it so; sending it again changes nothing. Nothing is stored: after a
takeover the nodes' hellos say what runs where, it is adopted as it is, and only then is anything moved. A slot
moves only when its node is gone. Node and coordinator agree when the beat shows what was assigned; as long as
it does not, the assignment is sent again, because the wire may lose it.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Final

from bus.subjects import Subjects
from coordinator.directory import Directory
from coordinator.fitting import belongs, choose, why_not
from coordinator.metrics import Metrics
from coordinator.outbox import Outbox
from coordinator.presence import Node, Presence
from swarm.protocol import Assignment, Placement

log = logging.getLogger(__name__)

Slot = tuple[str, int]
"""(agent, 1 … replicas)."""
RESEND_BEATS: Final = 1.0
"""How many beats a node gets to agree before its assignment is sent again."""


class Placer:
    def __init__(
        self,
        epoch: int,
        outbox: Outbox,
        subjects: Subjects,
        directory: Directory,
        presence: Presence,
        metrics: Metrics,
    ) -> None:
        self._epoch = epoch
        self._outbox = outbox
        self._subjects = subjects
        self._directory = directory
        self._presence = presence
        self._metrics = metrics
        self._where: dict[Slot, str] = {}
        self._generations: dict[Slot, int] = {}
        self._open = False
        self.before: list[Callable[[], None]] = []
        """Called before every placement, when the directory may have changed."""
        self.unplaced: dict[Slot, str] = {}
        """Slots that fit on no node, and why."""

    def open(self) -> None:
        """The grace is over: whoever runs something has said so, now missing ones are placed."""
        self._open = True
        self.converge(tell=tuple(self._presence.nodes))  # all learn the new epoch

    def adopt(self, node: Node) -> None:
        """A node has said what it runs. Called before anything is decided about it."""
        for row in node.instances:
            slot = (row.agent, row.slot)
            if row.status in ("stopped", "draining") or not self._is_wanted(slot):
                continue
            self._generations[slot] = max(row.generation, self._generations.get(slot, 0))
            if self._where.get(slot) not in self._presence.nodes:
                self._where[slot] = node.name

    def beat(self, node: Node, *, new: bool) -> None:
        """A node's state: adopt it, and send what it should run if that differs."""
        self.adopt(node)
        if not self._open:
            return
        if new:
            self.converge(tell=tuple(self._presence.nodes))  # it is new to the others, too
        elif not self._agrees(node):
            waited = self._presence.clock() - node.sent_at
            if waited >= RESEND_BEATS * self._presence.beat_seconds:
                self._send(node)

    def gone(self, node: Node) -> None:
        """A node is silent: what it ran is placed elsewhere."""
        self._presence.nodes.pop(node.name, None)
        log.warning("Node %s is gone; its agents are placed on other nodes.", node.name)
        if self._open:
            self.converge(tell=tuple(self._presence.nodes))

    def renew(self, slots: Iterable[Slot]) -> None:
        """Ask for a fresh process in these slots. Their nodes are told at once."""
        concerned = set[str]()
        for slot in slots:
            self._generations[slot] = self._generations.get(slot, 0) + 1
            concerned.add(self._where.get(slot, ""))
        self.converge(tell=concerned)

    def converge(self, tell: Iterable[str] = ()) -> None:
        """Place what is wanted and not placed, forget what is not wanted, tell the nodes that this concerns."""
        if not self._open:
            return
        for look in self.before:
            look()
        before = {name: self._placements(name) for name in self._presence.nodes}
        wanted = self._wanted()
        for slot in [slot for slot in self._where if slot not in wanted]:
            del self._where[slot]
            self._drain(slot)
        self._place(wanted)
        for name in sorted(self._presence.nodes):
            if name in tell or self._placements(name) != before[name]:
                self._send(self._presence.nodes[name])

    def _place(self, wanted: list[Slot]) -> None:
        """Find a node for each slot that has none, or whose node is gone or has not its agent's labels (any more)."""
        nodes = self._presence.nodes
        labels = {name: record.labels for name, _ in wanted if (record := self._directory.get(name))}
        for slot in wanted:
            if slot in self._where and not belongs(nodes.get(self._where[slot]), labels.get(slot[0], ())):
                del self._where[slot]
                self._drain(slot)
        load = Counter(self._where.values())
        kin: dict[str, Counter[str]] = {}
        for (agent, _), node in self._where.items():
            kin.setdefault(agent, Counter())[node] += 1
        self.unplaced.clear()
        for slot in wanted:
            if slot in self._where:
                continue
            own = kin.setdefault(slot[0], Counter())
            chosen = choose(nodes, labels.get(slot[0], ()), load, own)
            if chosen is None:
                if nodes:
                    self.unplaced[slot] = why_not(nodes, labels.get(slot[0], ()))
                continue
            self._where[slot] = chosen
            load[chosen] += 1
            own[chosen] += 1

    def _drain(self, slot: Slot) -> None:
        """Nothing new goes to an instance that is to end, from this moment."""
        for instance in self._presence.of(slot[0]).values():
            if instance.slot == slot[1]:
                instance.status = "draining"

    def _is_wanted(self, slot: Slot) -> bool:
        record = self._directory.get(slot[0])
        return record is not None and 1 <= slot[1] <= record.wanted

    def _wanted(self) -> list[Slot]:
        return [(record.name, number) for record in self._directory for number in range(1, record.wanted + 1)]

    def _placements(self, node: str) -> tuple[Placement, ...]:
        placements = []
        for (agent, number), where in sorted(self._where.items()):
            record = self._directory.get(agent)
            if where == node and record is not None:
                placements.append(
                    Placement(
                        agent=agent,
                        agent_id=record.id,
                        slot=number,
                        source=record.source,
                        version=record.version,
                        generation=self._generations.get((agent, number), 0),
                        heritage=self._directory.heritage(record),
                        secrets=record.birth.secrets if record.birth is not None else (),
                    )
                )
        return tuple(placements)

    def _agrees(self, node: Node) -> bool:
        runs = {
            (row.agent, row.slot, row.generation)
            for row in node.instances
            if row.status not in ("stopped", "draining")
        }
        return runs == {(p.agent, p.slot, p.generation) for p in self._placements(node.name)}

    def _send(self, node: Node) -> None:
        node.sent_at = self._presence.clock()
        assignment = Assignment(
            epoch=self._epoch,
            placements=self._placements(node.name),
            others=len(self._presence.nodes) > 1,
        )
        self._outbox.control(self._subjects.node_down(node.name), node.name, assignment)
        self._metrics.assignments += 1
