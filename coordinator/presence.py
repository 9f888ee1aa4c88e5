"""Presence: which instances and nodes live, by what they say and how long they have been silent.

An instance is present from its hello until its goodbye, the exit that its node reports, or three missed
beats. Nothing of this is stored: a new coordinator calls the roll and hears it again.

Silence is not always the silent one's fault. While the coordinator itself has no connection, or was paused,
nobody's beats arrive; then all clocks of silence start anew instead of declaring everyone dead.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Final

from swarm.protocol import Beat, Hello, InstanceStatus, NodeBeat, NodeInstance

MISSED_BEATS: Final = 3
HELLO_SECONDS: Final = 90.0
"""From a process to its hello: more than a plugin may take to load (swarm/agent/loading.py)."""
LATE_BEATS: Final = 1.5
"""An instance that is so late gets nothing new as long as another one is in time."""
Clock = Callable[[], float]


@dataclass(slots=True, eq=False)
class Instance:
    """One live process of an agent. `slot` is its stable place among the replicas, once its node has said so."""

    agent: str
    name: str
    version: str = ""
    node: str = ""
    pid: int = 0
    capacity: int = 64
    status: InstanceStatus = "ready"
    slot: int | None = None
    beat: Beat | None = None
    heard_at: float = 0.0
    since: float = 0.0
    mismatches: int = 0
    """Beats in a row by which it had less in hand than we believe."""
    called_at: float = float("-inf")

    @property
    def key(self) -> str:
        """What stays the same when the process is replaced: rendezvous hashing and cycles go by it."""
        return f"{self.slot:06d}" if self.slot is not None else f"~{self.name}"


@dataclass(slots=True, eq=False)
class Node:
    name: str
    pid: int = 0
    heard_at: float = 0.0
    instances: tuple[NodeInstance, ...] = ()
    capacity: int = 0
    """Instances at most; 0: no bound."""
    labels: frozenset[str] = frozenset()
    enrols: bool = False
    sent_at: float = float("-inf")
    """When its assignment was last sent."""


@dataclass(slots=True)
class Presence:
    beat_seconds: float
    clock: Clock = time.monotonic
    hello_seconds: float = HELLO_SECONDS
    instances: dict[str, Instance] = field(default_factory=dict)
    nodes: dict[str, Node] = field(default_factory=dict)
    _unheard: dict[str, float] = field(default_factory=dict)
    """Instances that a node runs and that never said hello, and since when that is known."""
    _of_agent: dict[str, dict[str, Instance]] = field(default_factory=dict)

    # ── instances ─────────────────────────────────────────────────────────────────────────────────
    def hello(self, agent: str, said: Hello) -> tuple[Instance, bool]:
        """The instance, and whether it is new. An instance's name belongs to the agent that brought it first:
        another agent's hello under it gets a ValueError."""
        instance = self.instances.get(said.instance)
        new = instance is None
        if instance is None:
            instance = Instance(agent, said.instance, since=self.clock())
            self.instances[said.instance] = instance
            self._of_agent.setdefault(agent, {})[said.instance] = instance
        elif instance.agent != agent:
            raise ValueError(f"instance {said.instance} belongs to {instance.agent}")
        instance.version, instance.node, instance.pid = said.version, said.node, said.pid
        instance.capacity, instance.status = said.capacity, "ready"
        instance.heard_at = self.clock()
        instance.mismatches = 0
        if instance.slot is None:
            instance.slot = self._slot_of(instance)
        return instance, new

    def beat(self, agent: str, said: Beat) -> Instance | None:
        """The instance; None when it is not known (say so to it)."""
        instance = self.of(agent).get(said.instance)
        if instance is not None:
            instance.beat, instance.status = said, said.status
            instance.heard_at = self.clock()
        return instance

    def remove(self, agent: str, name: str) -> Instance | None:
        instance = self._of_agent.get(agent, {}).pop(name, None)
        if instance is not None:
            del self.instances[name]
        return instance

    def of(self, agent: str) -> dict[str, Instance]:
        return self._of_agent.get(agent, {})

    def ready(self, agent: str) -> list[Instance]:
        """The instances that take new work, in the order of their keys."""
        return sorted(
            (i for i in self._of_agent.get(agent, {}).values() if i.status == "ready"), key=lambda i: i.key
        )

    def in_time(self, instances: list[Instance]) -> list[Instance]:
        """Those whose last beat is not overdue; all when it is everyone's, as that says nothing of one of them."""
        limit = self.clock() - self.beat_seconds * LATE_BEATS
        return [i for i in instances if i.heard_at >= limit] or instances

    def silent(self) -> list[Instance]:
        limit = self.clock() - self.beat_seconds * (MISSED_BEATS + 0.25)
        return [i for i in self.instances.values() if i.heard_at < limit]

    def excuse_silence(self) -> None:
        """It was we who could not hear: count everyone's silence from now."""
        now = self.clock()
        self._unheard = dict.fromkeys(self._unheard, now)
        for instance in self.instances.values():
            instance.heard_at = now
        for node in self.nodes.values():
            node.heard_at = now

    # ── nodes ─────────────────────────────────────────────────────────────────────────────────────
    def node_beat(self, said: NodeBeat) -> tuple[Node, bool, list[Instance]]:
        """The node, whether it is new, and the instances that it should have and no longer names."""
        node = self.nodes.get(said.node)
        new = node is None or node.pid != said.pid
        if node is None:
            node = self.nodes[said.node] = Node(said.node)
        node.pid, node.instances, node.heard_at = said.pid, said.instances, self.clock()
        node.capacity, node.labels, node.enrols = said.capacity, frozenset(said.labels), said.enrols
        named = set()
        for row in said.instances:
            named.add(row.instance)
            instance = self.instances.get(row.instance)
            if instance is not None and instance.agent == row.agent:
                instance.slot, instance.node = row.slot, said.node
        # A beat sent just before an instance was forked may arrive after its hello, so fresh ones are spared.
        old = self.clock() - self.beat_seconds
        gone = [
            i
            for i in self.instances.values()
            if i.node == said.node and i.name not in named and i.since < old
        ]
        return node, new, gone

    def silent_nodes(self) -> list[Node]:
        limit = self.clock() - self.beat_seconds * (MISSED_BEATS + 0.25)
        return [node for node in self.nodes.values() if node.heard_at < limit]

    def mute(self) -> list[tuple[Node, NodeInstance]]:
        """What nodes run that has not said hello in time; each is named once."""
        now = self.clock()
        unheard = {
            row.instance: (node, row)
            for node in self.nodes.values()
            for row in node.instances
            if row.status in ("starting", "running") and row.instance not in self.instances
        }
        self._unheard = {name: self._unheard.get(name, now) for name in unheard}
        late = [name for name, since in self._unheard.items() if now - since > self.hello_seconds]
        for name in late:
            self._unheard[name] = now
        return [unheard[name] for name in late]

    def node_rows(self, agent: str) -> Iterator[tuple[Node, NodeInstance]]:
        for node in self.nodes.values():
            for row in node.instances:
                if row.agent == agent:
                    yield node, row

    def _slot_of(self, instance: Instance) -> int | None:
        node = self.nodes.get(instance.node)
        rows = node.instances if node is not None else ()
        return next((row.slot for row in rows if row.instance == instance.name), None)
