"""A whole swarm in one process: the real coordinator and real instances, on the bus and store in memory."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from bus.bus import Bus
from bus.buses.memory import MemoryBroker
from bus.envelope import Envelope, pack, raise_if_error, read_body
from bus.subjects import Subjects
from coordinator.service import Coordinator
from coordinator.settings import CoordinatorSettings
from swarm.agent.instance import Instance, Stop
from swarm.agent.runtime import AgentRuntime
from swarm.agent.spec import AgentSpec
from swarm.character import Character
from swarm.ids import new_id, string_to_uuid
from swarm.plugin import Plugin
from swarm.protocol import Command
from swarm.records import AgentPermissions, AgentPlan, Balance
from swarm.stores.memory import MemoryDatabase
from swarm.testing import VirtualClock, eventually

NAME = "memory"


@dataclass
class Running:
    instance: Instance
    runtime: AgentRuntime
    stop: Stop
    task: asyncio.Task[int]
    bus: Bus


@dataclass
class MemorySwarm:
    group: asyncio.TaskGroup
    broker: MemoryBroker = field(default_factory=MemoryBroker)
    database: MemoryDatabase = field(default_factory=MemoryDatabase)
    subjects: Subjects = field(default_factory=lambda: Subjects(NAME))
    running: dict[str, Running] = field(default_factory=dict)
    plans: dict[str, AgentPlan] = field(default_factory=dict)
    coordinator: Coordinator | None = None
    coordinating: asyncio.Task[None] | None = None
    operator: Bus | None = None

    async def know(
        self,
        name: str,
        *,
        parent: str | None = None,
        control: bool = False,
        replicas: int = 1,
        balance: Balance = "room",
    ) -> None:
        self.plans[name] = AgentPlan(
            name=name,
            id=string_to_uuid(name),
            character={"name": name, "bio": "A test."},
            version="1",
            parent=parent,
            permissions=AgentPermissions(create_children=control, control_children=control),
            replicas=replicas,
            balance=balance,
        )
        await self.database.ledger().provision(list(self.plans.values()), {})
        if self.coordinator is not None:
            await self.ctl("converge")

    async def start(
        self, name: str, *plugins: Plugin, slot: int = 1, clock: VirtualClock | None = None, **fields: Any
    ) -> Running:
        """`clock` is for the waits between tries; `fields` are the spec's."""
        spec = AgentSpec(
            swarm=NAME, agent=name, agent_id=string_to_uuid(name), instance=f"{slot}-{new_id()[-6:]}",
            source="", project="", bus_url="", bus_jwt="", bus_seed="", store_url="", **fields,
        )  # fmt: skip
        bus = self.broker.connect(name)
        character = Character(name=name, bio="A test.", id=spec.agent_id)
        runtime = AgentRuntime(
            character, self.database.store(name), plugins, spec.settings, name=name, instance=spec.instance,
            clock=clock or time.monotonic, sleep=clock.sleep if clock else asyncio.sleep,
        )  # fmt: skip
        stop, instance = Stop(), Instance(spec, runtime, bus)
        task = self.group.create_task(instance.run(stop))
        running = Running(instance, runtime, stop, task, bus)
        self.running[f"{name}.{slot}"] = running
        await asyncio.wait_for(instance.ready.wait(), 10)
        return running

    async def kill(self, name: str, slot: int = 1) -> None:
        """The end of a process without a word: its connection and its tasks are gone."""
        running = self.running.pop(f"{name}.{slot}")
        await running.bus.close()
        running.task.cancel()
        await asyncio.wait([running.task])

    async def end(self, name: str, slot: int = 1) -> int:
        running = self.running.pop(f"{name}.{slot}")
        running.stop.term.set()
        code = await running.task
        await running.runtime.stop()
        await running.bus.close()
        return code

    async def coordinate(self) -> None:
        settings = CoordinatorSettings(
            swarm=NAME, beat_seconds=0.2, grace_seconds=0.2, sweep_seconds=0.5, expiry_seconds=0.2,
            lease_seconds=1.0, renew_seconds=0.3, standby_seconds=0.1,
        )  # fmt: skip
        bus = self.broker.connect("coordinator")
        self.coordinator = Coordinator(bus, self.database.ledger(), settings)
        self.coordinating = self.group.create_task(self._run(self.coordinator, bus))
        await eventually(lambda: self.coordinator and self.coordinator.active, what="an active coordinator")

    async def kill_coordinator(self) -> None:
        assert self.coordinating is not None
        self.coordinating.cancel()
        await asyncio.wait([self.coordinating])
        self.coordinator = None

    async def _run(self, coordinator: Coordinator, bus: Bus) -> None:
        try:
            await coordinator.run()
        finally:
            await bus.close()

    async def ctl(self, verb: str, *, timeout: float = 10.0, **args: Any) -> Any:
        assert self.operator is not None
        if "sender" in args:
            args["as"] = args.pop("sender")
        envelope = Envelope(
            id=new_id(),
            sender="operator",
            to="coordinator",
            room="ctl",
            kind="control",
            body=pack(Command(args)),
        )
        reply = await self.operator.request(self.subjects.ctl("operator", verb), envelope, timeout=timeout)
        return read_body(raise_if_error(reply), Any)  # type: ignore[arg-type]


@asynccontextmanager
async def memory_swarm(names: Sequence[str] = ()) -> AsyncIterator[MemorySwarm]:
    async with asyncio.TaskGroup() as group:
        swarm = MemorySwarm(group)
        swarm.operator = swarm.broker.connect("operator")
        for name in names:
            await swarm.know(name)
        await swarm.coordinate()
        try:
            yield swarm
        finally:
            for running in swarm.running.values():
                running.task.cancel()
            if swarm.coordinating is not None:
                swarm.coordinating.cancel()
