"""Families (F7, F8, F10 to F14, F16, A11): children at run time, their rights and bounds, and a parent's death."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from bus.errors import Refused
from swarm.errors import NoAuthority, StoreError, UnknownAgent, UnknownChild
from swarm.ids import string_to_uuid
from swarm.ledger import LeaseLost
from swarm.records import CHILD_PERMISSIONS, AgentPermissions, AgentRecord, Family, HierarchyLimits, NewChild
from tests.contract.store_fixtures import CONTROL, FAMILY, World, memory, plan, task


def child(name: str, **changes: Any) -> NewChild:
    base: dict[str, Any] = {"id": string_to_uuid(name), "character": {"name": name}, "version": "1"}
    return NewChild(name=name, **(base | changes))


async def record(world: World, name: str) -> AgentRecord:
    return next(one for one in await world.ledger.agents() if one.name == name)


async def give_password(world: World, name: str) -> None:
    """What a node does for a spawned agent before it starts it."""
    from swarm.stores.postgres import role_name
    from swarm.stores.postgres.roles import verifier

    id = string_to_uuid(name)
    role = role_name(getattr(world, "swarm", "memory"), id)
    assert await world.ledger.set_verifier(id, verifier(role, world.password(name)))


# ── asking who is whose ───────────────────────────────────────────────────────────────────────────


async def test_f7_f14_a_family_is_known_up_and_down(world: World) -> None:
    await world.ledger.spawn("boss", child("apprentice", permissions={"create_children": True}))
    await world.ledger.spawn("apprentice", child("helper"))
    assert await world.ledger.family("boss") == Family(
        None, ("apprentice", "reader", "writer"), (), ("apprentice", "reader", "writer", "helper")
    )
    assert await world.ledger.family("helper") == Family("apprentice", (), ("apprentice", "boss"), ())
    assert await world.ledger.roots() == ["boss", "stranger"]
    with pytest.raises(UnknownAgent, match="did you mean helper"):
        await world.ledger.family("halper")


# ── being born ────────────────────────────────────────────────────────────────────────────────────


async def test_f10_a_child_is_registered_with_the_defaults_of_a_child(world: World) -> None:
    assert await world.ledger.spawn("boss", child("apprentice", roles=("help",), orphans="stop"))
    born = await record(world, "apprentice")
    assert born.parent == "boss"
    assert born.permissions == CHILD_PERMISSIONS
    assert (born.replicas, born.desired, born.status, born.orphans) == (1, "running", "inactive", "stop")
    assert born.birth is not None and (born.birth.of, born.birth.secrets) == ("boss", ())
    assert (await record(world, "reader")).birth is None
    assert await world.store("reader").get_character(born.id) == {"name": "apprentice"}


async def test_a_spawned_child_has_a_login_of_its_own_once_a_node_has_made_it(world: World) -> None:
    await world.ledger.spawn("boss", child("apprentice"))
    await give_password(world, "apprentice")
    store = world.another_store("apprentice")
    await store.init()
    await store.create_memory(memory("my own"))
    assert await store.count_memories() == 1
    assert not await world.ledger.set_verifier(string_to_uuid("reader"), "SCRAM-SHA-256$4096:x$y:z")


async def test_the_same_child_is_not_born_twice_and_another_character_is_refused(world: World) -> None:
    """A11: one name, one character."""
    assert await world.ledger.spawn("boss", child("apprentice"))
    before = await record(world, "apprentice")
    assert not await world.ledger.spawn("boss", child("apprentice"))
    assert await record(world, "apprentice") == before
    with pytest.raises(StoreError, match="another character"):
        await world.ledger.spawn("boss", child("apprentice", version="2"))
    with pytest.raises(StoreError, match="known under another id"):
        await world.ledger.spawn("boss", child("apprentice", id=string_to_uuid("somebody")))
    with pytest.raises(StoreError, match="taken by the agent apprentice"):
        await world.ledger.spawn("boss", child("twin", id=string_to_uuid("apprentice")))
    with pytest.raises(StoreError, match="in the swarm file already"):
        await world.ledger.spawn("boss", child("reader"))
    assert await record(world, "apprentice") == before


async def test_f11_who_may_not_create_children_creates_nothing(world: World) -> None:
    with pytest.raises(NoAuthority, match="reader may not create children"):
        await world.ledger.spawn("reader", child("apprentice"))
    with pytest.raises(UnknownAgent):
        await world.ledger.spawn("nobody", child("apprentice"))
    with pytest.raises(UnknownAgent):
        await world.ledger.spawn("operator", child("apprentice"))
    assert "apprentice" not in [one.name for one in await world.ledger.agents()]


async def test_f10_a_child_never_has_more_rights_than_its_parent(world: World) -> None:
    await world.provision(*FAMILY[:3], plan("maker", permissions=AgentPermissions(True, False, False)))
    with pytest.raises(NoAuthority, match="would have control_children, which its parent maker has not"):
        await world.ledger.spawn("maker", child("apprentice", permissions={"control_children": True}))
    with pytest.raises(NoAuthority, match="access_parent_memory"):
        await world.ledger.spawn("maker", child("apprentice", permissions={"access_parent_memory": True}))
    assert await world.ledger.spawn("maker", child("apprentice", permissions={"create_children": True}))
    assert (await record(world, "apprentice")).permissions == AgentPermissions(True, False, False, False)
    with pytest.raises(StoreError, match="did you mean create_children"):
        await world.ledger.spawn("maker", child("other", permissions={"creat_children": True}))


@pytest.mark.parametrize("name", ["all", "operator-2", "coordinator", "a name", "", "x" * 64])
async def test_a_name_that_would_mean_something_else_is_refused(world: World, name: str) -> None:
    with pytest.raises(StoreError):
        await world.ledger.spawn("boss", child(name))


async def test_f16_depth_and_fan_out_are_bounded(world: World) -> None:
    plans = {p.name: p for p in FAMILY}
    passwords = {name: world.password(name) for name in plans}
    await world.ledger.provision(FAMILY, passwords, HierarchyLimits(depth=2, children=3))
    maker = {"create_children": True}
    assert await world.ledger.spawn("boss", child("one", permissions=maker))
    with pytest.raises(Refused, match="boss has 3 children") as refused:
        await world.ledger.spawn("boss", child("two"))
    assert refused.value.reason == "hierarchy"
    assert await world.ledger.spawn("one", child("deep", permissions=maker))
    with pytest.raises(Refused, match="deep is 2 generations below its root"):
        await world.ledger.spawn("deep", child("deeper"))
    await world.ledger.remove_child(None, "one")
    assert await world.ledger.spawn("boss", child("two"))
    with pytest.raises(Refused, match=r"boss would have \d children"):
        await world.ledger.provision(FAMILY, passwords, HierarchyLimits(depth=2, children=1))


async def test_f16_nobody_becomes_its_own_ancestor(world: World) -> None:
    maker = {"create_children": True}
    await world.ledger.spawn("boss", child("mother", permissions=maker))
    await world.ledger.spawn("mother", child("daughter", permissions=maker))
    await world.ledger.remove_child(None, "mother")
    with pytest.raises(Refused, match="its own ancestor"):
        await world.ledger.spawn("daughter", child("mother"))
    with pytest.raises(StoreError, match="its own ancestor"):
        await world.provision(plan("a", parent="b"), plan("b", parent="a"))


async def test_a_spawned_child_survives_a_swarm_file_that_does_not_name_it(world: World) -> None:
    await world.ledger.spawn("boss", child("apprentice"))
    await world.provision(*FAMILY)
    born = await record(world, "apprentice")
    assert (born.desired, born.parent) == ("running", "boss") and born.birth is not None
    await world.provision(*FAMILY, plan("apprentice", parent="boss"))
    assert (await record(world, "apprentice")).birth is None
    await world.provision(*FAMILY)
    assert (await record(world, "apprentice")).desired == "stopped"


async def test_only_a_coordinator_with_a_lease_makes_children(world: World) -> None:
    other = world.another_ledger()
    await other.init()
    with pytest.raises(LeaseLost):
        await other.spawn("boss", child("apprentice"))
    with pytest.raises(LeaseLost):
        await other.settle_death("boss")


# ── commanding and removing ───────────────────────────────────────────────────────────────────────


async def test_f12_stopping_a_child_is_a_right(world: World) -> None:
    await world.ledger.spawn("boss", child("apprentice", permissions={"create_children": True}))
    await world.ledger.spawn("apprentice", child("helper"))
    assert await world.ledger.command_child("boss", "apprentice", "stopped") == "apprentice"
    assert (await record(world, "apprentice")).desired == "stopped"
    assert await world.ledger.command_child("boss", string_to_uuid("apprentice"), None) == "apprentice"
    with pytest.raises(NoAuthority) as refused:
        await world.ledger.command_child("apprentice", "helper", "stopped")
    assert str(refused.value) == "No authority over this agent"
    for stranger in ("boss", "stranger", "helper"):  # itself, another family's, a grandchild's
        with pytest.raises(NoAuthority):
            await world.ledger.command_child("boss", stranger, None)
    with pytest.raises(UnknownChild) as unknown:
        await world.ledger.command_child("boss", "nobody", "stopped")
    assert str(unknown.value) == "Child agent nobody not found"
    assert (await record(world, "helper")).desired == "running"


async def test_a_removed_child_is_nobodys_any_more_and_may_come_back(world: World) -> None:
    await world.ledger.spawn("boss", child("apprentice"))
    assert await world.ledger.remove_child("boss", "apprentice") == "apprentice"
    assert (await record(world, "apprentice")).desired == "stopped"
    assert "apprentice" not in (await world.ledger.family("boss")).children
    with pytest.raises(UnknownChild):
        await world.ledger.remove_child("boss", "apprentice")
    with pytest.raises(NoAuthority):
        await world.ledger.remove_child("stranger", "reader")
    with pytest.raises(StoreError, match="in the swarm file"):
        await world.ledger.remove_child(None, "reader")
    assert await world.ledger.spawn("boss", child("apprentice", version="2"))
    assert (await record(world, "apprentice")).desired == "running"


async def test_who_was_removed_is_given_no_task_by_its_former_parent(world: World) -> None:
    """What its own connections, if any are open, are refused is in tests/security/test_delegating.py."""
    await world.ledger.spawn("boss", child("apprentice"))
    await world.ledger.remove_child("boss", "apprentice")
    with pytest.raises(NoAuthority):
        await world.store("boss").delegate([task("apprentice")])
    with pytest.raises(NoAuthority):
        await world.ledger.delegate("boss", [task("apprentice")])
    assert await world.ledger.tasks() == []


# ── losing rights ─────────────────────────────────────────────────────────────────────────────────


async def test_f12_a_right_that_is_taken_is_gone_from_the_whole_subtree(world: World) -> None:
    both = {"create_children": True, "control_children": True}
    await world.ledger.spawn("boss", child("chief", permissions=both))
    await world.ledger.spawn("chief", child("clerk", permissions=both))
    await world.ledger.spawn("clerk", child("page"))
    for name in ("chief", "clerk"):
        await give_password(world, name)
    waiting = task("page")
    await world.another_store("clerk").delegate([waiting])

    less = [msgspec.structs.replace(p, permissions=AgentPermissions(True, False)) for p in FAMILY[:1]]
    await world.provision(*less, *FAMILY[1:])
    assert (await record(world, "clerk")).permissions == AgentPermissions(True, False, True, False)
    with pytest.raises(NoAuthority):
        await world.another_store("clerk").delegate([task("page")])
    ended = await world.ledger.task(waiting.id)
    assert ended is not None and (ended.state, ended.error) == ("rejected", "No authority over this agent")
    with pytest.raises(NoAuthority):
        await world.ledger.command_child("chief", "clerk", "stopped")
    await world.ledger.permit("chief", {"create_children": False})
    with pytest.raises(NoAuthority):
        await world.ledger.spawn("clerk", child("another"))
    with pytest.raises(NoAuthority, match="its parent boss has not"):
        await world.ledger.permit("chief", {"control_children": True})

    await world.provision(*FAMILY)  # given back to the parent, it is the subtree's again as it was declared
    assert (await record(world, "clerk")).permissions == AgentPermissions(False, True, True, False)
    await world.another_store("clerk").delegate([task("page")])


async def test_rights_of_the_swarm_file_are_changed_there(world: World) -> None:
    with pytest.raises(StoreError, match="stand in the swarm file"):
        await world.ledger.permit("reader", {"control_children": False})
    with pytest.raises(UnknownAgent):
        await world.ledger.permit("nobody", {})


async def test_f13_a_childs_sight_of_its_parents_memory_ends_with_the_right(world: World) -> None:
    await world.store("boss").create_memory(memory("the safe is behind the picture"))
    await world.ledger.spawn("boss", child("apprentice"))
    await give_password(world, "apprentice")
    store = world.another_store("apprentice")

    async def seen() -> tuple[int, int, int]:
        found = await store.search_memories(text="safe picture")
        return len(await store.get_memories()), len(found), await store.count_memories()

    assert await seen() == (1, 1, 1)
    await world.ledger.permit("apprentice", {"access_parent_memory": False})
    assert await seen() == (0, 0, 0)
    await world.ledger.permit("apprentice", {"access_parent_memory": True})
    assert await seen() == (1, 1, 1)
    blind = [msgspec.structs.replace(p, permissions=AgentPermissions(True, True, False)) for p in FAMILY[:1]]
    others = [
        msgspec.structs.replace(p, permissions=AgentPermissions(access_parent_memory=False))
        for p in FAMILY[1:3]
    ]
    await world.provision(*blind, *others, FAMILY[3])
    assert await seen() == (0, 0, 0)


# ── a parent's death ──────────────────────────────────────────────────────────────────────────────


async def test_f16_orphans_stop_and_start_again_with_their_parent(world: World) -> None:
    await world.provision(plan("boss", permissions=CONTROL, orphans="stop"), *FAMILY[1:])
    await world.ledger.spawn("boss", child("apprentice"))
    await world.ledger.set_desired("writer", "stopped")
    assert await world.ledger.settle_death("boss") == ["apprentice", "reader"]
    assert await world.ledger.settle_death("boss") == []  # one death
    assert (await record(world, "apprentice")).orphaned and (await record(world, "boss")).died_at is not None
    assert await world.ledger.settle_return("boss") == ["apprentice", "reader"]
    assert await world.ledger.settle_return("boss") == []
    wanted = {one.name: (one.desired, one.orphaned) for one in await world.ledger.agents()}
    assert wanted == {
        "apprentice": ("running", False),
        "boss": ("running", False),
        "reader": ("running", False),
        "stranger": ("running", False),
        "writer": ("stopped", False),  # somebody's own decision
    }


async def test_f16_a_child_born_under_a_stopped_parent_escaped_what_becomes_of_orphans(world: World) -> None:
    """A parent's death is dealt with once: who was born after it ran on, whatever `orphans` said."""
    await world.provision(plan("boss", permissions=CONTROL, orphans="stop"), *FAMILY[1:])
    assert await world.ledger.spawn("boss", child("early"))
    await world.ledger.set_desired("boss", "stopped")
    for _ in range(2):  # before its death was dealt with, and after
        with pytest.raises(Refused, match=r"boss is stopped, .*start it first") as refused:
            await world.ledger.spawn("boss", child("late"))
        assert refused.value.reason == "hierarchy"
        assert not await world.ledger.spawn("boss", child("early")), "a repeated word finds what it made"
        await world.ledger.settle_death("boss")
    await world.ledger.set_desired("boss", "running")
    assert await world.ledger.spawn("boss", child("late")), "its first turn need not wait for its return"


async def test_what_an_operator_says_of_an_orphan_outlives_its_parents_return(world: World) -> None:
    await world.provision(plan("boss", permissions=CONTROL, orphans="stop"), *FAMILY[1:])
    await world.ledger.settle_death("boss")
    await world.ledger.set_desired("reader", "stopped")
    assert await world.ledger.settle_return("boss") == ["writer"]


async def test_f16_orphans_go_to_their_grandparent_and_keep_no_more_rights_than_it_has(world: World) -> None:
    both = {"create_children": True, "control_children": True}
    await world.ledger.spawn("boss", child("chief", permissions=both, orphans="reparent"))
    await world.ledger.spawn("chief", child("clerk", permissions=both))
    await world.ledger.permit("chief", {"control_children": False})
    assert await world.ledger.settle_death("chief") == ["clerk"]
    clerk = await record(world, "clerk")
    assert (clerk.parent, clerk.permissions) == ("boss", AgentPermissions(True, True, True, False))
    assert clerk.birth is not None and clerk.birth.of == "chief"
    assert await world.ledger.settle_return("chief") == []
    await world.ledger.remove_child("boss", "clerk")


async def test_f16_kept_orphans_are_left_alone(world: World) -> None:
    before = [one for one in await world.ledger.agents() if one.name != "boss"]
    assert await world.ledger.settle_death("boss") == []
    assert [one for one in await world.ledger.agents() if one.name != "boss"] == before
