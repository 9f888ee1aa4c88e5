"""What the three policies promise, for any members and any coming and going: G11, G12, G13, and I3 above them."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bus.errors import NobodyThere
from coordinator.balance import Balancer, rendezvous
from swarm.records import Balance
from swarm.testing import eventually
from tests.coordinator_house import FakeInstance, House, a_house, plan, tell


@dataclass(frozen=True, order=True)
class Member:
    key: str


members = st.sets(st.integers(1, 40), min_size=1, max_size=12).map(
    lambda numbers: sorted(Member(f"{number:06d}") for number in numbers)
)
rooms = st.lists(st.text(min_size=1, max_size=20), min_size=1, max_size=30, unique=True)


def pick(
    balancer: Balancer, how: Balance, of: list[Member], able: set[Member], load: dict[Member, int]
) -> Any:
    return balancer.pick(how, "r", of, load=lambda m: load.get(m, 0), can_take=lambda m: m in able)


@given(members, members, rooms)
def test_g11_only_rooms_of_those_that_go_or_to_those_that_come_move(
    before: list[Member], after: list[Member], names: list[str]
) -> None:
    for room in names:
        old, new = rendezvous(room, before), rendezvous(room, after)
        assert new == rendezvous(room, after[::-1]), "it goes by the members, not by their order"
        if new != old:
            assert old not in after or new not in before
        if old in after and not set(after) - set(before):
            assert new == old


@given(members, st.lists(st.sets(st.integers(0, 11)), min_size=1, max_size=40))
def test_g12_round_robin_is_an_exact_cycle_that_skips_who_cannot(
    of: list[Member], able_now: list[set[int]]
) -> None:
    balancer, last = Balancer(), None
    for numbers in able_now:
        able = {member for number, member in enumerate(of) if number in numbers}
        chosen = pick(balancer, "round-robin", of, able, {})
        if not able:
            assert chosen is None
            continue
        start = 0 if last is None else of.index(last) + 1
        assert chosen == next(member for member in of[start:] + of[:start] if member in able)
        last = chosen
    rounds = [pick(balancer, "round-robin", of, set(of), {}) for _ in range(3 * len(of))]
    assert all(rounds.count(member) == 3 for member in of)
    assert rounds[: len(of)] == rounds[len(of) : 2 * len(of)]


@given(members, st.lists(st.dictionaries(st.integers(0, 11), st.integers(0, 5)), min_size=1, max_size=40))
def test_g13_least_loaded_has_the_fewest_in_flight_and_equals_take_turns(
    of: list[Member], loads: list[dict[int, int]]
) -> None:
    balancer = Balancer()
    for numbers in loads:
        load = {member: numbers.get(number, 0) for number, member in enumerate(of)}
        chosen = pick(balancer, "least-loaded", of, set(of), load)
        assert load[chosen] == min(load.values())
    turns = [pick(balancer, "least-loaded", of, set(of), {}) for _ in of]
    assert sorted(turns) == of


@pytest.fixture
async def house() -> AsyncIterator[House]:
    async with a_house() as house:
        yield house


@pytest.mark.parametrize("how", ["room", "round-robin", "least-loaded"])
async def test_i3_order_is_kept_in_each_room_while_instances_come_and_go(house: House, how: Balance) -> None:
    await house.provision(plan("writer"), plan("reader", replicas=3, balance=how))
    await house.coordinator()
    writer = await house.instance("writer")
    rng, handled = random.Random(11), house.handled
    live: list[FakeInstance] = []
    used: list[FakeInstance] = []

    async def come() -> None:
        instance = await house.instance("reader", capacity=rng.choice([1, 3, 16]))
        live.append(instance)
        used.append(instance)

    await come()
    for round in range(12):
        await writer.store.post(
            [
                tell("reader", f"{room} {round * 4 + n}", room=f"room {room}")
                for n in range(4)
                for room in range(5)
            ]
        )
        await writer.ring("reader")
        await eventually(lambda least=round * 10: len(handled) >= least, what=f"{round * 10} handled")
        if len(live) > 1 and rng.random() < 0.6:
            leaver = live.pop(rng.randrange(len(live)))
            await (leaver.goodbye() if rng.random() < 0.5 else leaver.die())
        if len(live) < 3:
            await come()
    await eventually(lambda: len(handled) == 240, seconds=20, what="everything")
    lanes = defaultdict(list)
    for text in handled:
        room, _, number = text.partition(" ")
        lanes[room].append(int(number))
    assert lanes == {str(room): list(range(48)) for room in range(5)}
    assert len([instance for instance in used if instance.handled]) > 3, "nobody took over"


async def test_one_that_hangs_keeps_nobody_else_waiting_and_gets_no_more_than_its_capacity(
    house: House,
) -> None:
    await house.provision(plan("writer"), *(plan(name) for name in ("stuck", "quick", "other")))
    await house.coordinator()
    writer = await house.instance("writer")
    stuck = await house.instance("stuck", capacity=4, hands_on="hold")
    quick, other = await house.instance("quick"), await house.instance("other")
    for n in range(50):
        for to in ("stuck", "stuck", "quick", "other"):
            (receipt,) = await writer.store.post([tell(to, f"{n}", room=f"{n % 8}")])
            assert receipt.recipients == (to,), "its sender is not slowed either"
    await writer.ring("stuck", "quick", "other")
    await eventually(lambda: len(quick.handled) == len(other.handled) == 50)
    assert stuck.handled == [] and stuck.most_in_hand == 4
    view = await house.ledger().inbox("stuck")
    assert view.waiting + view.in_flight == 100 and view.in_flight <= 8, "in hand, and held for it"
    await stuck.handle_all()
    await eventually(lambda: len(stuck.handled) == 100)
    assert stuck.most_in_hand == 4


@pytest.mark.parametrize("how", ["room", "round-robin", "least-loaded"])
async def test_g12_an_instance_that_is_late_is_skipped_and_an_ask_to_nobody_is_a_clear_error(
    house: House, how: Balance
) -> None:
    await house.provision(plan("writer"), plan("reader", replicas=2, balance=how))
    await house.coordinator()
    writer = await house.instance("writer")
    with pytest.raises(NobodyThere, match="reader is known but no instance of it is ready; tell it instead"):
        await writer.ask("reader")
    late, well = await house.instance("reader"), await house.instance("reader")
    late.beating, late.answer = False, lambda envelope: None

    async def only_the_other() -> bool:
        before = len(late.asked)
        for n in range(6):
            try:
                assert await writer.ask("reader", room=f"{n}", within=0.2) == "pong"
            except Exception:
                return False
        return len(late.asked) == before

    await eventually(only_the_other, what="the late one is skipped")
    assert len(well.asked) >= 6
