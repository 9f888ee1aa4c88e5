"""Which replica gets what: pure choices, no servers."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice
from typing import Any

import pytest

from coordinator.balance import Balancer, rendezvous
from coordinator.lanes import Flight, Lanes
from swarm.records import Content, Dispatch


@dataclass(frozen=True)
class Member:
    key: str


A, B, C = Member("1"), Member("2"), Member("3")
ROOMS = [f"room {n}" for n in range(300)]


def choose(
    balancer: Balancer,
    how: Any,
    members: list[Member],
    load: dict[str, int] | None = None,
    *,
    without: str = "",
) -> str | None:
    chosen = balancer.pick(
        how,
        "r",
        members,
        load=lambda m: (load or {}).get(m.key, 0),
        can_take=lambda m: m.key != without,
    )
    return None if chosen is None else chosen.key


def test_a_room_keeps_its_instance_and_only_the_rooms_of_the_dead_move() -> None:
    before = {room: rendezvous(room, [A, B, C]) for room in ROOMS}
    assert {member.key for member in before.values()} == {"1", "2", "3"}
    assert all(60 < list(before.values()).count(member) < 140 for member in (A, B, C))
    after = {room: rendezvous(room, [A, C]) for room in ROOMS}
    assert all(after[room] == member for room, member in before.items() if member != B)
    back = {room: rendezvous(room, [C, B, A]) for room in ROOMS}
    assert back == before


def test_a_room_waits_for_its_own_instance_when_that_is_full() -> None:
    balancer = Balancer()
    right = rendezvous("r", [A, B])
    assert choose(balancer, "room", [A, B]) == right.key
    assert choose(balancer, "room", [A, B], without=right.key) is None


def test_round_robin_is_an_exact_cycle() -> None:
    balancer = Balancer()
    assert [choose(balancer, "round-robin", [A, B, C]) for _ in range(7)] == [*"1231231"]


def test_round_robin_skips_the_unhealthy_and_survives_a_change_of_members() -> None:
    balancer = Balancer()
    assert [choose(balancer, "round-robin", [A, B, C], without="2") for _ in range(4)] == [*"1313"]
    assert choose(balancer, "round-robin", [A]) == "1"
    assert choose(balancer, "round-robin", [A, B, C]) == "2"


@pytest.mark.parametrize("how", ["room", "round-robin", "least-loaded"])
def test_nobody_is_chosen_among_none(how: str) -> None:
    assert choose(Balancer(), how, []) is None


def test_least_loaded_takes_the_fewest_in_flight_and_turns_among_equals() -> None:
    balancer = Balancer()
    assert choose(balancer, "least-loaded", [A, B, C], {"1": 2, "2": 1, "3": 2}) == "2"
    assert {choose(balancer, "least-loaded", [A, B, C]) for _ in range(3)} == {"1", "2", "3"}
    assert choose(balancer, "least-loaded", [A, B], {"1": 0, "2": 5}, without="1") == "2"


def flight(delivery: int, instance: str, room: str = "r", crashes: int = 0) -> Flight:
    dispatch = Dispatch(
        delivery=delivery, id="", sender="s", recipient="a", room=room, kind="tell", content=Content(),
        attempt=1, crashes=crashes,
    )  # fmt: skip
    return Flight(delivery, "a", instance, 0.0, dispatch)


def test_a_lane_sticks_to_its_instance_while_it_has_work_in_flight() -> None:
    lanes = Lanes(lambda: 0.0)
    lanes.enter(flight(1, "i1"))
    lanes.enter(flight(2, "i1"))
    assert lanes.instance_of("a", "r") == "i1" and lanes.instance_of("a", "other") is None
    lanes.leave(1)
    assert lanes.instance_of("a", "r") == "i1" and lanes.load("i1") == 1
    lanes.leave(2)
    lanes.leave(2)
    assert lanes.instance_of("a", "r") is None and lanes.load("i1") == 0


def test_lanes_know_their_suspects_and_forget_the_dead() -> None:
    lanes = Lanes(lambda: 0.0)
    lanes.enter(flight(1, "i1", crashes=1))
    lanes.enter(flight(2, "i1", room="q"))
    assert lanes.has_suspect("i1")
    assert [f.delivery for f in lanes.drop("i1")] == [1, 2]
    assert not lanes.has_suspect("i1") and lanes.instance_of("a", "q") is None and len(lanes) == 0


def test_a_lane_that_hands_back_again_and_again_waits_longer_and_longer() -> None:
    now = 0.0
    lanes = Lanes(lambda: now)
    waits = list(islice(iter(lambda: lanes.handed_back("a", "r"), None), 8))
    assert waits == [0.0, 0.05, 0.1, 0.2, 0.4, 0.8, 1.0, 1.0]
    assert lanes.seconds_to_wait("a", "r") == 1.0 and lanes.seconds_to_wait("a", "q") == 0.0
    lanes.went_well("a", "r")
    assert lanes.seconds_to_wait("a", "r") == 0.0
