"""How many run (G11, G14, X7): the policy on a clock of its own, and scaling, sleeping and rolling on nodes that
start and drain what they are told to."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import msgspec
import pytest

from bus.errors import NobodyThere, Refused
from coordinator.scaling import HOLD_SECONDS, Follower, Load
from swarm.protocol import Assignment, NodeInstance
from swarm.scaling import ScalePolicy
from swarm.testing import eventually
from tests.coordinator_house import FakeInstance, FakeNode, House, a_house, plan, tell

POLICY = ScalePolicy(min=1, max=3, queue_seconds=5.0, in_flight=8, idle_seconds=30.0)
CALM = Load(ready=1, in_hand=0, oldest=0.0)


# ── the policy, on a virtual clock ────────────────────────────────────────────────────────────────
class Course:
    """A follower and its agent, second after second; a new replica is ready `start` seconds after its step."""

    def __init__(self, replicas: int = 1, start: float = 1.0) -> None:
        self.follower, self.replicas, self.ready, self.now, self.start = (
            Follower(),
            replicas,
            replicas,
            0.0,
            start,
        )
        self.steps: list[tuple[float, int]] = []
        self._comes: float | None = None

    def go(self, seconds: float, *, each: int = 0, oldest: float = 0.0, policy: ScalePolicy = POLICY) -> None:
        """`each`: what a ready instance has in hand."""
        until = self.now + seconds
        while self.now < until:
            self.now += 1.0
            if self._comes is not None and self.now >= self._comes:
                self.ready, self._comes = self.replicas, None
            load = Load(self.ready, each * self.ready, oldest)
            number = self.follower.step(policy, self.replicas, load, self.now)
            if number != self.replicas:
                self.steps.append((self.now, number))
                if number > self.replicas:
                    self._comes = self.now + self.start
                else:
                    self.ready = number
                self.replicas = number


def test_what_waits_too_long_brings_one_replica_at_a_time_up_to_the_bound() -> None:
    course = Course()
    course.go(60, oldest=6.0)
    assert [number for _, number in course.steps] == [2, 3]
    first, second = (moment for moment, _ in course.steps)
    assert first >= HOLD_SECONDS
    assert second - first >= POLICY.queue_seconds, "a step is given time to show"


def test_too_many_turns_in_flight_for_each_bring_another_and_a_burst_does_not() -> None:
    course = Course()
    course.go(HOLD_SECONDS, each=20)
    course.go(20, each=1)
    assert course.steps == []
    course.go(4, each=9)
    assert course.replicas == 2


def test_a_replica_that_does_not_come_is_not_followed_by_another() -> None:
    course = Course(start=1000.0)
    course.go(120, oldest=60.0)
    assert course.replicas == 2


def test_after_a_calm_time_one_after_the_other_goes_and_never_the_last() -> None:
    course = Course(replicas=3)
    course.go(29)
    assert course.steps == []
    course.go(200)
    assert [number for _, number in course.steps] == [2, 1]
    assert course.steps[1][0] - course.steps[0][0] >= POLICY.idle_seconds


def test_between_the_two_thresholds_nothing_changes() -> None:
    course = Course(replicas=2)
    course.go(500, each=5)  # 10 in hand: one alone would have more than half of what brought the second
    assert course.steps == []
    course.go(20, each=0)
    course.go(2, each=5)
    course.go(20, each=0)
    assert course.steps == [], "calm begins anew"


def test_bounds_that_change_hold_at_once_and_none_stays_none() -> None:
    assert Follower().step(ScalePolicy(min=2, max=3), 1, CALM, 0.0) == 2
    assert Follower().step(POLICY, 9, CALM, 0.0) == 3
    assert Follower().step(POLICY, 0, Load(0, 0, 900.0), 0.0) == 0


# ── with nodes that obey ──────────────────────────────────────────────────────────────────────────
class LivingNode(FakeNode):
    """Starts an instance for each placement, and lets one that is not placed any more end what it has in hand."""

    hands_on = "handle"
    starts = True

    def __init__(self, house: House, name: str) -> None:
        super().__init__(house, name)
        self.obeys = False
        self.running: dict[str, tuple[FakeInstance, NodeInstance]] = {}
        self.left_alone: dict[str, int] = {}
        """By agent: how many others ran, at the least, when one had to go."""
        self._told = asyncio.Event()

    def _receive(self, incoming: object) -> None:
        super()._receive(incoming)  # type: ignore[arg-type]
        self._told.set()

    async def live(self) -> None:
        while True:
            await self._told.wait()
            self._told.clear()
            if self.assignments:
                await self.converge(self.assignments[-1])

    async def converge(self, assignment: Assignment) -> None:
        named = {f"{p.agent}-{p.slot}-{p.generation}": p for p in assignment.placements}
        for name in [name for name in self.running if name not in named]:
            instance, row = self.running[name]
            others = len(self.of(row.agent)) - 1
            self.left_alone[row.agent] = min(others, self.left_alone.get(row.agent, others))
            instance.status = "draining"
            await instance.beat()
            await eventually(lambda instance=instance: not instance.in_hand)
            await instance.goodbye()
            del self.running[name]
        for name, p in named.items():
            if name in self.running or not self.starts:
                continue
            row = NodeInstance(agent=p.agent, slot=p.slot, instance=name, pid=9, generation=p.generation)
            instance = FakeInstance(self.house, p.agent, name=name, capacity=64)
            instance.hands_on = self.hands_on
            self.running[name] = (instance, row)
            await self._say_state()
            await instance.start()
        await self._say_state()

    async def _say_state(self) -> None:
        self.instances = tuple(row for _, row in self.running.values())
        await self.say("beat", self.state())

    def of(self, agent: str) -> list[str]:
        return sorted(name for name in self.running if name.startswith(f"{agent}-"))


@pytest.fixture
async def house() -> AsyncIterator[House]:
    async with a_house() as house:
        await house.provision(
            plan("boss"),
            plan("reader", replicas=2),
            plan("owl", sleep_after=0.4),
            plan("worker", scale=POLICY),
        )
        yield house


async def living(house: House, hands_on: str = "handle") -> LivingNode:
    node = LivingNode(house, "node-1")
    node.hands_on = hands_on
    await node.start()
    house.group.create_task(node.live())
    return node


async def row_of(house: House, agent: str) -> dict[str, object]:
    return next(row for row in await house.command("ps") if row["name"] == agent)


async def test_g14_scaling_changes_what_is_wanted_and_keeps_to_the_number(house: House) -> None:
    await house.coordinator()
    node = await living(house)
    up = await house.command("scale", agent="reader", replicas=3)
    assert (up["done"], up["before"], up["replicas"], len(up["instances"])) == (True, 2, 3, 3)
    down = await house.command("scale", agent="reader", replicas=1)
    assert down["done"]
    assert node.of("reader") == ["reader-1-0"]
    none = await house.command("scale", agent="reader", replicas=0)
    assert none["done"]
    row = await row_of(house, "reader")
    assert (row["status"], row["reason"]) == ("absent", "scaled to 0")
    boss = next(instance for name, (instance, _) in node.running.items() if name.startswith("boss"))
    with pytest.raises(NobodyThere, match="swarm scale reader 1"):
        await boss.ask("reader")


async def test_a_policys_bounds_are_an_operators_bounds_but_none_is_allowed(house: House) -> None:
    await house.coordinator()
    await living(house)
    with pytest.raises(Refused, match="between 1 and 3"):
        await house.command("scale", agent="worker", replicas=4)
    assert (await house.command("scale", agent="worker", replicas=3))["done"]
    assert (await house.command("scale", agent="worker", replicas=0))["done"]


async def test_fault_20_what_a_replica_has_in_hand_is_handled_before_it_goes(house: House) -> None:
    await house.coordinator()
    node = await living(house, hands_on="hold")
    await eventually(lambda: len(node.of("reader")) == 2)
    boss = next(instance for name, (instance, _) in node.running.items() if name.startswith("boss"))
    receipts = await boss.store.post([tell("reader", str(n), room=f"r{n}") for n in range(8)])
    await boss.ring(*receipts[0].recipients)
    readers = [instance for name, (instance, _) in node.running.items() if name.startswith("reader")]
    await eventually(lambda: sum(len(one.in_hand) for one in readers) == 8)
    leaving = next(one for one in readers if one.name == "reader-2-0")
    kept = len(leaving.in_hand)
    answer = await house.command("scale", agent="reader", replicas=1, timeout=0.2)
    assert not answer["done"], "it has not ended what it has in hand"
    await boss.store.post([tell("reader", "later", room="r0")])
    await boss.ring("reader")
    assert len(leaving.in_hand) == kept, "and gets nothing new"
    for one in readers:
        await one.handle_all()
    await eventually(lambda: node.of("reader") == ["reader-1-0"])
    await eventually(lambda: sorted(house.handled) == sorted(["later", *map(str, range(8))]))


async def test_a_policy_follows_the_work_and_a_successor_goes_on(house: House) -> None:
    policy = ScalePolicy(min=1, max=2, queue_seconds=0.1, in_flight=1, idle_seconds=0.5)
    await house.provision(plan("boss"), plan("worker", scale=policy))
    first = await house.coordinator()
    node = await living(house, hands_on="hold")
    await eventually(lambda: len(node.running) == 2)
    boss = next(instance for name, (instance, _) in node.running.items() if name.startswith("boss"))
    receipts = await boss.store.post([tell("worker", str(n), room=f"r{n}") for n in range(4)])
    await boss.ring(*receipts[0].recipients)
    await eventually(lambda: len(node.of("worker")) == 2, what="the policy brings a second")
    await house.kill(first)
    await house.coordinator()
    assert len(node.of("worker")) == 2, "a takeover adopts what runs"
    for name in node.of("worker"):
        await node.running[name][0].handle_all()
    await eventually(lambda: node.of("worker") == ["worker-1-0"], what="the policy takes it away again")
    assert sorted(house.handled) == ["0", "1", "2", "3"]


async def test_x7_who_is_idle_falls_asleep_and_its_mail_wakes_it(house: House) -> None:
    first = await house.coordinator()
    node = await living(house)
    await eventually(lambda: node.of("owl"))
    await eventually(lambda: not node.of("owl"), what="it falls asleep")
    assert (await row_of(house, "owl"))["status"] == "asleep"
    await house.command("tell", agent="owl", text="1")
    await eventually(lambda: house.handled == ["1"])
    await eventually(lambda: not node.of("owl"), what="it falls asleep again")
    await house.kill(first)
    await house.coordinator()
    assert (await row_of(house, "owl"))["status"] == "asleep", "a successor lets it sleep"
    await house.command("tell", agent="owl", text="2")
    await eventually(lambda: house.handled == ["1", "2"])


async def test_an_ask_waits_for_the_start_of_a_sleeper_within_its_deadline(house: House) -> None:
    await house.coordinator()
    node = await living(house)
    await eventually(lambda: node.of("owl"))
    await eventually(lambda: not node.of("owl"))
    boss = next(instance for name, (instance, _) in node.running.items() if name.startswith("boss"))
    assert await boss.ask("owl") == "pong"
    await eventually(lambda: not node.of("owl"))
    assert (await house.command("ask", agent="owl", text="and an operator's?"))["text"] == "pong"
    await house.command("stop", agent="owl")
    with pytest.raises(NobodyThere):
        await boss.ask("owl")


async def test_who_has_work_does_not_fall_asleep(house: House) -> None:
    await house.coordinator()
    node = await living(house, hands_on="hold")
    await eventually(lambda: node.of("owl"))
    [name] = node.of("owl")
    await house.command("tell", agent="owl", text="work")
    owl = node.running[name][0]
    await eventually(lambda: owl.in_hand)
    looks = await house.command("inbox", agent="owl")
    assert looks["waiting"] == 0
    asleep_by = asyncio.get_running_loop().time() + 1.0
    await eventually(lambda: asyncio.get_running_loop().time() > asleep_by)
    assert node.of("owl") == [name]
    await owl.handle_all()
    await eventually(lambda: not node.of("owl"))


async def test_a_restart_and_another_character_replace_one_at_a_time(house: House) -> None:
    coordinator = await house.coordinator()
    node = await living(house)
    await eventually(lambda: len(node.of("reader")) == 2)
    await eventually(lambda: coordinator.term and len(coordinator.term.presence.ready("reader")) == 2)
    assert (await house.command("restart", agent="reader"))["ready"]
    assert node.of("reader") == ["reader-1-1", "reader-2-1"]
    plans = [plan("boss"), plan("owl"), plan("worker"), plan("reader", replicas=2)]
    await house.provision(*plans[:3], msgspec.structs.replace(plans[3], version="2"))
    await house.command("converge")
    await eventually(lambda: node.of("reader") == ["reader-1-2", "reader-2-2"])
    assert node.of("boss") == ["boss-1-0"]
    assert node.left_alone["reader"] == 1, "the other one was there each time"


async def test_a_successor_rolls_who_still_has_another_character(house: House) -> None:
    first = await house.coordinator()
    node = await living(house)
    await eventually(lambda: len(node.of("reader")) == 2 and node.of("boss"))
    await house.kill(first)
    plans = [plan("boss"), plan("owl"), plan("worker"), plan("reader", replicas=2)]
    await house.provision(*plans[:3], msgspec.structs.replace(plans[3], version="2"))
    await house.coordinator()
    await eventually(lambda: node.of("reader") == ["reader-1-1", "reader-2-1"])
    assert node.of("boss") == ["boss-1-0"], "the others are left as they are"


async def test_a_successor_that_does_not_come_ends_the_roll_and_the_others_stay(house: House) -> None:
    coordinator = await house.coordinator()
    node = await living(house)
    await eventually(lambda: coordinator.term and len(coordinator.term.presence.ready("reader")) == 2)
    assert coordinator.term is not None
    rolling = coordinator.term.rolling
    rolling.seconds = 0.4
    node.starts = False
    answer = await house.command("restart", agent="reader", timeout=0.2)
    assert not answer["ready"]
    assert rolling.replaces("reader")
    await eventually(lambda: not rolling.replaces("reader"))
    assert node.of("reader") == ["reader-2-0"]
    node.starts = True
    await house.command("converge")
    await eventually(
        lambda: node.of("reader") == ["reader-1-1", "reader-2-0"], what="the slot is filled later"
    )


async def test_x7_while_nothing_waits_neither_a_policy_nor_sleep_asks_the_ledger(house: House) -> None:
    coordinator = await house.coordinator()
    node = await living(house)
    await eventually(lambda: node.of("owl") and node.of("worker"))
    await eventually(lambda: not node.of("owl"), what="the owl sleeps")
    term = coordinator.term
    assert term is not None
    await eventually(lambda: term.presence.ready("worker") and not term.router.may_wait("worker"))
    house.database.down = True  # whoever asks it now is told so
    try:
        await term.scaling.follow()
        await term.sleeping.wake_called()
        await term.sleeping.let_sleep(term.presence.clock())
    finally:
        house.database.down = False
