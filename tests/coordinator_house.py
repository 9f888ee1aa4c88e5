"""A house for tests of the coordinator: a bus and a ledger in memory (or real ones, in tests/integration),
coordinators that can be killed, and instances that speak the protocol and nothing more."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable
from typing import Any

import msgspec

from bus.bus import Bus, Incoming
from bus.buses.memory import MemoryBroker
from bus.envelope import Envelope, pack, read_body
from bus.errors import BusError
from bus.permissions import Permissions, permissions_of
from bus.subjects import Subjects
from coordinator.service import Coordinator
from coordinator.settings import CoordinatorSettings
from swarm.ids import new_id, string_to_uuid
from swarm.ledger import Ledger
from swarm.protocol import (
    Assignment,
    Beat,
    Bell,
    Command,
    Exited,
    Goodbye,
    Hello,
    NodeBeat,
    NodeInstance,
    RollCall,
    Unresponsive,
)
from swarm.records import OPERATOR, AgentPlan, Content, Outgoing, Turn
from swarm.store import Store
from swarm.stores.memory import MemoryDatabase
from swarm.testing import eventually

SUBJECTS = Subjects("test")
FAST = CoordinatorSettings(
    swarm="test",
    lease_seconds=0.8,
    renew_seconds=0.2,
    standby_seconds=0.05,
    grace_seconds=0.3,
    beat_seconds=0.2,
    sweep_seconds=0.4,
    expiry_seconds=0.1,
)


def plan(name: str, **fields: Any) -> AgentPlan:
    return AgentPlan(name=name, id=string_to_uuid(name), character={"name": name}, version="1", **fields)


def tell(to: str, text: str, *, room: str = "r", kind: Any = "tell", **fields: Any) -> Outgoing:
    return Outgoing(id=new_id(), to=to, room=room, content=Content(text=text), kind=kind, **fields)


class FakeInstance:
    """One instance of an agent. `hands_on` decides what becomes of a dispatch: "handle" commits it and rings,
    "hold" keeps it in hand, "lose" never got it, "deaf" commits it and the bell is lost."""

    def __init__(self, house: House, agent: str, *, name: str, capacity: int) -> None:
        self.house, self.agent, self.name, self.capacity = house, agent, name, capacity
        self.store = house.store(agent)
        self.hands_on = "handle"
        self.beating = True
        self.status: Any = "ready"
        self.in_hand: dict[int, Envelope] = {}
        self.handled: list[str] = []
        self.seen: list[str] = []
        self.most_in_hand = 0
        self.asked: list[Envelope] = []
        self.answer: Callable[[Envelope], str | None] = lambda envelope: "pong"
        self.roll_calls = 0
        self.lost = 0
        self.welcomes = 0
        self._work: asyncio.Queue[Incoming] = asyncio.Queue()
        self._called = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self.bus: Bus

    async def start(self) -> FakeInstance:
        self.bus = await self.house.connect(
            self.agent, permissions_of("agent", self.house.subjects, self.agent)
        )
        await self.bus.subscribe(self.house.subjects.down(self.agent, self.name), self._receive)
        await self.bus.subscribe(self.house.subjects.all, self._receive)
        for work in (self._live(), self._handle()):
            self._tasks.append(self.house.group.create_task(work))
        return self

    def _receive(self, incoming: Incoming) -> None:
        if incoming.envelope.kind == "control":
            self.roll_calls += 1
            self._called.set()
        elif incoming.envelope.kind == "ask":
            self.asked.append(incoming.envelope)
            self._work.put_nowait(incoming)
        elif self.hands_on == "lose":
            self.lost += 1
        elif incoming.envelope.delivery not in self.in_hand:
            envelope = incoming.envelope
            assert envelope.delivery is not None
            self.seen.append(read_body(envelope, Content).text)
            self.in_hand[envelope.delivery] = envelope
            self.most_in_hand = max(self.most_in_hand, len(self.in_hand))
            if self.hands_on != "hold":
                self._work.put_nowait(incoming)

    async def _handle(self) -> None:
        while True:
            incoming = await self._work.get()
            envelope = incoming.envelope
            if envelope.kind == "ask":
                text = self.answer(envelope)
                if text is not None and incoming.reply is not None:
                    answer = msgspec.structs.replace(
                        envelope, sender=self.agent, kind="reply", body=pack(Content(text=text))
                    )
                    await self.bus.publish(incoming.reply, answer)
            else:
                await self.handle(envelope)

    async def handle(self, envelope: Envelope) -> None:
        assert envelope.delivery is not None
        turn = Turn(delivery=envelope.delivery, attempt=envelope.attempt, instance=self.name)
        committed = await self.store.commit(turn)
        self.in_hand.pop(envelope.delivery, None)
        if committed.status == "committed":
            self.handled.append(read_body(envelope, Content).text)
            self.house.handled.append(self.handled[-1])
        if committed.status == "out_of_order":
            await self.say("bell", Bell(instance=self.name, returned=(envelope.delivery,)))
        elif self.hands_on != "deaf":
            await self.say(
                "bell", Bell(instance=self.name, done=(envelope.delivery,), to=committed.recipients)
            )

    async def handle_all(self) -> None:
        """From holding to handling, in order."""
        self.hands_on = "handle"
        for _, envelope in sorted(self.in_hand.items()):
            await self.handle(envelope)

    async def _live(self) -> None:
        self._called.set()
        while True:
            if self.beating:
                with contextlib.suppress(BusError):
                    if self._called.is_set():
                        self._called.clear()
                        await self.hello()
                    await self.beat()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(FAST.beat_seconds):
                    await self._called.wait()

    async def hello(self) -> None:
        said = Hello(
            instance=self.name, version="1", node="node-1", pid=7, capacity=self.capacity,
            in_flight=tuple(self.in_hand),
        )  # fmt: skip
        try:
            await self.bus.request(
                self.house.subjects.up(self.agent, "hello"), self.envelope(said), timeout=1
            )
        except BusError:
            self._called.set()
            raise
        self.welcomes += 1

    async def beat(self) -> None:
        await self.say("beat", Beat(instance=self.name, status=self.status, in_flight=len(self.in_hand)))

    async def goodbye(self) -> None:
        self.stop()
        await self.say("goodbye", Goodbye(instance=self.name, returned=tuple(self.in_hand)))
        await self.bus.close()

    async def ring(self, *to: str) -> None:
        await self.say("bell", Bell(instance=self.name, to=to))

    async def say(self, verb: Any, body: msgspec.Struct) -> None:
        with contextlib.suppress(BusError):
            await self.bus.publish(self.house.subjects.up(self.agent, verb), self.envelope(body))

    def envelope(self, body: Any, **fields: Any) -> Envelope:
        given = {
            "id": new_id(),
            "sender": self.agent,
            "to": "coordinator",
            "room": "control",
            "kind": "control",
        }
        return Envelope(**{**given, "body": pack(body), **fields})

    def ask_envelope(self, to: str, **fields: Any) -> Envelope:
        deadline = int((time.time() + 5) * 1000)
        given: dict[str, Any] = {"to": to, "room": "r", "kind": "ask", "deadline": deadline}
        return self.envelope(Content(text="ping"), **{**given, **fields})

    async def ask(self, to: str, *, within: float = 5, **fields: Any) -> str:
        subject = self.house.subjects.up(self.agent, "ask")
        reply = await self.bus.request(subject, self.ask_envelope(to, **fields), timeout=within)
        return read_body(reply, Content).text

    def stop(self) -> None:
        for task in self._tasks:
            task.cancel()

    async def die(self) -> None:
        """SIGKILL: not a word more."""
        self.stop()
        await self.bus.close()


class FakeNode:
    """A node that does at once what it is assigned, on paper only."""

    def __init__(self, house: House, name: str) -> None:
        self.house, self.name = house, name
        self.assignments: list[Assignment] = []
        self.unresponsive: list[str] = []
        """The instances that it was told to end."""
        self.instances: tuple[NodeInstance, ...] = ()
        self.obeys = True
        self.beating = True
        self.bus: Bus
        self._task: asyncio.Task[None]

    async def start(self) -> FakeNode:
        self.bus = await self.house.connect(self.name, permissions_of("node", self.house.subjects, self.name))
        await self.bus.subscribe(self.house.subjects.node_down(self.name), self._receive)
        await self.bus.subscribe(self.house.subjects.all, self._receive)
        await self.say("hello", self.state())
        self._task = self.house.group.create_task(self._live())
        return self

    def state(self) -> NodeBeat:
        return NodeBeat(node=self.name, pid=1, instances=self.instances)

    def _receive(self, incoming: Incoming) -> None:
        body = read_body(incoming.envelope, Assignment | RollCall | Unresponsive)  # type: ignore[arg-type]
        if isinstance(body, Unresponsive):
            self.unresponsive.append(body.instance)
            return
        if isinstance(body, RollCall):
            self.house.group.create_task(self.say("hello", self.state()))
            return
        self.assignments.append(body)
        if self.obeys:
            self.instances = tuple(
                NodeInstance(
                    agent=p.agent,
                    slot=p.slot,
                    instance=f"{p.agent}-{p.slot}-{p.generation}",
                    pid=100,
                    generation=p.generation,
                )
                for p in body.placements
            )

    async def _live(self) -> None:
        while True:
            await asyncio.sleep(FAST.beat_seconds)
            if self.beating:
                await self.say("beat", self.state())

    async def exited(self, agent: str, instance: str, *, crashed: bool = True) -> None:
        await self.say("exit", Exited(node=self.name, agent=agent, instance=instance, crashed=crashed))

    async def say(self, verb: str, body: msgspec.Struct) -> None:
        envelope = Envelope(
            id=new_id(), sender=self.name, to="coordinator", room="control", kind="control", body=pack(body)
        )
        await self.bus.publish(self.house.subjects.node_up(self.name, verb), envelope)

    @property
    def slots(self) -> set[tuple[str, int]]:
        return {(p.agent, p.slot) for p in self.assignments[-1].placements} if self.assignments else set()


class House:
    """`group` owns everything that runs; leaving the house cancels it."""

    def __init__(self, group: asyncio.TaskGroup) -> None:
        self.group = group
        self.broker = MemoryBroker()
        self.database = MemoryDatabase()
        self.settings = FAST
        self.handled: list[str] = []
        """What all instances handled, in the order of their commits."""
        self.subjects = SUBJECTS
        self._running: dict[Coordinator, asyncio.Task[None]] = {}
        self._buses: dict[Coordinator, Bus] = {}
        self._number = 0

    # what tests against real servers replace
    async def connect(self, name: str, permissions: Permissions) -> Bus:
        return self.broker.connect(name, permissions)

    def ledger(self) -> Ledger:
        return self.database.ledger()

    def store(self, agent: str) -> Store:
        return self.database.store(agent)

    async def provision(self, *plans: AgentPlan) -> None:
        await self.ledger().provision(plans, {})

    async def coordinator(self, *, wait: bool = True) -> Coordinator:
        bus = await self.connect("coordinator", permissions_of("coordinator", self.subjects, "coordinator"))
        coordinator = Coordinator(bus, self.ledger(), self.settings)
        self._buses[coordinator] = bus
        self._running[coordinator] = self.group.create_task(coordinator.run())
        if wait:
            await eventually(lambda: coordinator.active, what="the coordinator is active")
        return coordinator

    async def kill(self, coordinator: Coordinator) -> None:
        """SIGKILL: everything it knew is gone, and its lease stays taken."""
        task = self._running.pop(coordinator)
        task.cancel()
        await asyncio.wait([task])
        await self._buses.pop(coordinator).close()

    async def stop(self, coordinator: Coordinator) -> None:
        coordinator.stop()
        await self._running.pop(coordinator)

    async def instance(self, agent: str, *, capacity: int = 64, hands_on: str = "handle") -> FakeInstance:
        self._number += 1
        name = f"{agent}-{self._number}"
        instance = FakeInstance(self, agent, name=name, capacity=capacity)
        instance.hands_on = hands_on
        await instance.start()
        if self._running:
            await eventually(lambda: instance.welcomes, what=f"{name} is welcome")
        return instance

    async def node(self, name: str) -> FakeNode:
        return await FakeNode(self, name).start()

    async def command(self, verb: str, *, within: float = 10, sender: str | None = None, **args: Any) -> Any:
        if sender is not None:
            args["as"] = sender
        bus = await self.connect(OPERATOR, permissions_of("operator", self.subjects, OPERATOR))
        envelope = Envelope(
            id=new_id(), sender=OPERATOR, to="coordinator", room="control", kind="control",
            body=pack(Command(args)),
        )  # fmt: skip
        try:
            reply = await bus.request(self.subjects.ctl(OPERATOR, verb), envelope, timeout=within)
            return msgspec.msgpack.decode(reply.body)
        finally:
            await bus.close()


@contextlib.asynccontextmanager
async def a_house(kind: Callable[[asyncio.TaskGroup], House] = House) -> Any:
    """A house in which everything ends with the test, and what fails in it fails the test."""
    async with asyncio.TaskGroup() as group:
        house = kind(group)
        yield house
        for task in [*asyncio.all_tasks()]:
            if task in group._tasks:
                task.cancel()
