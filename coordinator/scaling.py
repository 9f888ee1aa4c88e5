"""Scaling: how many instances of an agent are wanted, by whom, and the policy that follows the work.

The ledger holds the number (`agents.replicas`), so that a successor goes on from it; an operator's word and a policy
change it the same way. Up is one more slot. Down is the highest slot less: its instance gets nothing new from that
moment, ends what it has in hand, and hands back what it has not begun.

A policy's state is two moments and is lost with the term: a successor watches anew before it takes a step.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass
from typing import Any, Final

from bus.errors import Refused
from coordinator.directory import Directory
from coordinator.placement import Placer
from coordinator.presence import Instance, Presence
from coordinator.progress import Progress
from coordinator.router import Router
from swarm.errors import StoreError
from swarm.ledger import LeaseLost, Ledger
from swarm.records import AgentRecord
from swarm.scaling import MOST_REPLICAS, ScalePolicy

log = logging.getLogger(__name__)

LOOK_SECONDS: Final = 1.0
HOLD_SECONDS: Final = 2.0
"""So long must the work be too much before another replica comes: a burst that is over by then needs none."""


@dataclass(frozen=True, slots=True)
class Load:
    """What an agent has to do: instances that are ready, what these have in hand together (turns, and what queues
    for one), and how many seconds the oldest message has waited for its turn."""

    ready: int
    in_hand: int
    oldest: float


@dataclass(slots=True)
class Follower:
    """Follows one agent's load. Moments in seconds of whatever clock `step` is told."""

    pressed_since: float | None = None
    calm_since: float | None = None
    rests_until: float = float("-inf")
    """A step is given time to show before the next one up."""

    def step(self, policy: ScalePolicy, replicas: int, load: Load, now: float) -> int:
        """How many replicas there should be, given that `replicas` are wanted now: one more, one less, as many, or
        what the bounds make of it. None at all is somebody's will, and stays."""
        if replicas == 0:
            return 0
        if not policy.min <= replicas <= policy.max:
            return policy.clamp(replicas)
        settled = load.ready >= replicas
        if not settled:
            self.rests_until = now + policy.queue_seconds
        if load.oldest > policy.queue_seconds or load.in_hand > policy.in_flight * max(1, load.ready):
            self.calm_since = None
            self.pressed_since = now if self.pressed_since is None else self.pressed_since
            if (
                settled
                and replicas < policy.max
                and now >= self.rests_until
                and now - self.pressed_since >= HOLD_SECONDS
            ):
                self.pressed_since, self.rests_until = None, now + policy.queue_seconds
                return replicas + 1
            return replicas
        self.pressed_since = None
        others = max(0, min(load.ready, replicas) - 1)
        if load.oldest > policy.queue_seconds / 2 or load.in_hand * 2 > policy.in_flight * others:
            self.calm_since = None
            return replicas
        self.calm_since = now if self.calm_since is None else self.calm_since
        if replicas > policy.min and now - self.calm_since >= policy.idle_seconds:
            self.calm_since = now
            return replicas - 1
        return replicas


class Scaling:
    def __init__(
        self,
        ledger: Ledger,
        directory: Directory,
        presence: Presence,
        router: Router,
        placer: Placer,
        progress: Progress,
    ) -> None:
        self._ledger = ledger
        self._directory = directory
        self._presence = presence
        self._router = router
        self._placer = placer
        self._progress = progress
        self._followers: dict[str, Follower] = {}

    async def scale(self, agent: str, replicas: int, timeout: float) -> dict[str, Any]:
        """Have so many; answers when they are ready and the others are gone, or after `timeout` seconds:
        `{"agent", "replicas", "before", "done", "instances"}`. Raises Refused outside of the policy's bounds."""
        record = self._directory.named(agent)
        policy = record.scale
        if not 0 <= replicas <= MOST_REPLICAS:
            raise Refused(f"An agent has 0 to {MOST_REPLICAS} replicas, not {replicas}.", reason="usage")
        if policy is not None and replicas not in (0, policy.clamp(replicas)):
            raise Refused(
                f"The policy of {agent} keeps it between {policy.min} and {policy.max} replicas; change `scale` in "
                "swarm.toml for more, or scale it to 0 to have none.",
                reason="bounds",
            )
        await self._set(agent, replicas)

        async def look() -> tuple[list[str], bool]:
            wanted = self._wanted(agent)
            ready = [one.name for one in self._presence.ready(agent)]
            slots = [row.slot for _, row in self._presence.node_rows(agent) if row.status != "stopped"]
            alive = [*slots, *(one.slot for one in self._presence.of(agent).values() if one.slot is not None)]
            return ready, len(ready) == wanted and all(slot <= wanted for slot in alive)

        names, done = await self._progress.until(look, lambda seen: seen[1], timeout)
        return {
            "agent": agent,
            "replicas": replicas,
            "before": record.replicas,
            "done": done,
            "instances": names,
        }

    async def run(self) -> None:
        """Follow the load of every agent that has a policy. Raises LeaseLost; waits out the store's other failures."""
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            try:
                await self.follow()
            except LeaseLost:
                raise
            except StoreError as error:
                log.warning("Nothing is scaled while the store does not answer: %s", error)

    async def follow(self) -> None:
        """One look at each agent with a policy that serves. The ledger is asked only about those of which mail may
        wait there, once for all of them."""
        records = [
            one
            for one in self._directory.scaled()
            if self._wanted(one.name) and self._presence.ready(one.name)
        ]
        self._followers = {one.name: self._followers.get(one.name, Follower()) for one in records}
        backlogged = [one.name for one in records if self._router.may_wait(one.name)]
        ages = await self._ledger.oldest_waiting(backlogged) if backlogged else {}
        for record in records:
            policy, follower = record.scale, self._followers[record.name]
            if policy is None:
                continue
            load = self._load(record, ages.get(record.name, 0.0))
            replicas = follower.step(policy, record.replicas, load, self._presence.clock())
            if replicas != record.replicas:
                log.info(
                    "%s goes from %d to %d replicas: %d ready, %d in hand, the oldest waits %.1f s",
                    record.name, record.replicas, replicas, load.ready, load.in_hand, load.oldest,
                )  # fmt: skip
                await self._set(record.name, replicas)

    async def _set(self, agent: str, replicas: int) -> None:
        await self._ledger.set_replicas(agent, replicas)
        await self._directory.amend([agent], replicas=replicas)
        self._placer.converge()
        self._router.places_changed(agent)

    def _wanted(self, agent: str) -> int:
        record = self._directory.get(agent)
        return 0 if record is None else record.wanted

    def _load(self, record: AgentRecord, oldest: float) -> Load:
        ready = self._presence.ready(record.name)
        in_hand = sum(self._in_hand(one) for one in ready) + len(self._router.places.held(record.name))
        return Load(len(ready), in_hand, max([oldest, *(self._oldest_queued(one) for one in ready)]))

    def _in_hand(self, instance: Instance) -> int:
        beat = instance.beat
        return max(self._router.places.load(instance), 0 if beat is None else beat.in_flight + beat.queued)

    def _oldest_queued(self, instance: Instance) -> float:
        """How long the first delivery that has no turn yet has waited at this instance."""
        beat = instance.beat
        if beat is None or not beat.queued:
            return 0.0
        flights = sorted(self._router.lanes.at(instance.name), key=lambda flight: flight.delivery)
        queued = flights[beat.in_flight :]
        return self._presence.clock() - queued[0].sent_at if queued else 0.0
