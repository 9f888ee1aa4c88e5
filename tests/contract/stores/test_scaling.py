"""How many of an agent run (G14, X7): whose number stands, who may sleep, and how long the oldest has waited."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from swarm.errors import StoreError, UnknownAgent
from swarm.ledger import LeaseLost
from swarm.records import AgentRecord, Turn
from swarm.scaling import ScalePolicy
from tests.contract.store_fixtures import FAMILY, World, message, task

POLICY = ScalePolicy(min=2, max=5)


async def record(world: World, name: str = "reader") -> AgentRecord:
    return next(one for one in await world.ledger.agents() if one.name == name)


async def replan(world: World, **changes: Any) -> AgentRecord:
    """The file's `reader` with these changes, provisioned; what became of it."""
    plans = [msgspec.structs.replace(one, **changes) if one.name == "reader" else one for one in FAMILY]
    await world.ledger.provision(plans, {one.name: world.password(one.name) for one in plans})
    return await record(world)


async def test_g14_what_an_operator_scaled_to_stands_until_the_file_says_another_number(world: World) -> None:
    await world.ledger.set_replicas("reader", 4)
    found = await replan(world, version="2")
    assert (found.replicas, found.planned_replicas) == (4, 1)
    found = await replan(world, replicas=2)
    assert (found.replicas, found.planned_replicas) == (2, 2)
    await world.ledger.set_replicas("reader", 0)
    assert (await replan(world, replicas=2)).replicas == 0
    await world.ledger.provision([one for one in FAMILY if one.name != "reader"], {})
    assert (await replan(world, replicas=2)).replicas == 2, "who was out of the file begins anew"


async def test_a_policys_bounds_hold_and_without_it_the_file_decides_again(world: World) -> None:
    found = await replan(world, scale=POLICY)
    assert (found.replicas, found.scale) == (2, POLICY)
    await world.ledger.set_replicas("reader", 5)
    assert (await replan(world, scale=POLICY)).replicas == 5
    assert (await replan(world, scale=ScalePolicy(min=1, max=3))).replicas == 3
    await world.ledger.set_replicas("reader", 0)
    assert (await replan(world, scale=POLICY)).replicas == 0, "none was asked for"
    found = await replan(world)
    assert (found.replicas, found.scale) == (1, None)


async def test_a_number_that_cannot_be_and_an_agent_that_is_not_are_refused(world: World) -> None:
    with pytest.raises(StoreError, match="0 to 1000"):
        await world.ledger.set_replicas("reader", -1)
    with pytest.raises(UnknownAgent, match="did you mean reader"):
        await world.ledger.set_replicas("raeder", 2)
    await world.ledger.release_lease("test")
    for write in (
        world.ledger.set_replicas("reader", 2),
        world.ledger.wake([]),
        world.ledger.put_to_sleep([]),
    ):
        with pytest.raises(LeaseLost):
            await write


async def test_the_oldest_that_waits_is_known_by_its_age(world: World) -> None:
    assert await world.ledger.oldest_waiting(["reader", "nobody"]) == {}
    await world.store("boss").post([message("reader", "1"), message("reader", "2")])
    ages = await world.ledger.oldest_waiting(["reader", "writer"])
    assert list(ages) == ["reader"]
    assert 0 <= ages["reader"] < 60
    await world.claim("reader")
    assert await world.ledger.oldest_waiting(["reader"]) == {}, "what is on its way does not wait here"


async def test_who_has_anything_open_does_not_fall_asleep(world: World) -> None:
    await replan(world, sleep_after=5.0)
    assert (await record(world)).sleep_after == 5.0
    await world.store("boss").post([message("reader")])
    assert await world.ledger.put_to_sleep(["reader", "writer"]) == []
    (got,) = await world.claim("reader")
    assert await world.ledger.put_to_sleep(["reader"]) == [], "it has it in hand"
    await world.store("reader").commit(Turn(delivery=got.delivery))
    (given,) = await world.store("boss").delegate([task("reader")])
    (got,) = await world.claim("reader")
    assert await world.ledger.put_to_sleep(["reader"]) == [], "it has a task"
    await world.ledger.cancel("boss", given.id)
    assert await world.ledger.put_to_sleep(["reader", "writer"]) == ["reader"]
    assert (await record(world)).asleep
    assert await world.ledger.put_to_sleep(["reader"]) == [], "it sleeps already"
    await world.ledger.wake(["reader"])
    assert not (await record(world)).asleep


async def test_sleep_outlives_a_new_plan_but_not_its_setting(world: World) -> None:
    await replan(world, sleep_after=5.0)
    assert await world.ledger.put_to_sleep(["reader"]) == ["reader"]
    assert (await replan(world, sleep_after=9.0, version="2")).asleep
    assert not (await replan(world)).asleep
    await world.ledger.set_desired("reader", "stopped")
    await replan(world, sleep_after=5.0)
    assert await world.ledger.put_to_sleep(["reader"]) == [], "it was stopped"


async def test_who_waits_for_a_task_that_it_gave_does_not_fall_asleep(world: World) -> None:
    plans = [msgspec.structs.replace(one, sleep_after=5.0) for one in FAMILY]
    await world.ledger.provision(plans, {one.name: world.password(one.name) for one in plans})
    await world.store("boss").delegate([task("writer")])
    assert await world.ledger.put_to_sleep(["boss", "stranger"]) == ["stranger"]
