"""The coordinator makes children for whoever the subject says, places them, and deals with those of the dead."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest

from bus.envelope import Envelope
from bus.errors import BadMessage, Refused
from swarm.ids import string_to_uuid
from swarm.protocol import Ancestor, ChildCommand, Login, NodeInstance, Spawn
from swarm.records import AgentPermissions, NewChild
from swarm.testing import eventually
from tests.coordinator_house import FakeInstance, FakeNode, House, a_house, plan

BOTH = AgentPermissions(create_children=True, control_children=True)


def child(name: str, **changes: Any) -> NewChild:
    base: dict[str, Any] = {"id": string_to_uuid(name), "character": {"name": name}, "version": "1"}
    return NewChild(name=name, **(base | changes))


@pytest.fixture
async def house() -> AsyncIterator[House]:
    async with a_house() as house:
        await house.provision(
            plan("boss", permissions=BOTH, orphans="stop", source="agents/boss"),
            plan("clerk", parent="boss"),
            plan("stranger"),
        )
        yield house


async def say(instance: FakeInstance, verb: str, body: msgspec.Struct, **fields: Any) -> Any:
    """What an agent asks of the coordinator at its own subject."""
    subject = instance.house.subjects.up(instance.agent, verb)
    reply = await instance.bus.request(subject, instance.envelope(body, **fields), timeout=5)
    return msgspec.msgpack.decode(reply.body)


async def wanted(house: House) -> dict[str, str]:
    return {record.name: record.desired for record in await house.ledger().agents()}


async def test_an_agent_spawns_a_child_and_its_node_is_told_what_it_inherits(house: House) -> None:
    await house.coordinator()
    node, boss = await house.node("node-1"), await house.instance("boss")
    said = await say(
        boss, "spawn", Spawn(child("helper", permissions={"create_children": True}, secrets=("A",)))
    )
    assert (said["agent"], said["parent"], said["created"], said["ready"]) == ("helper", "boss", True, False)
    again = await say(boss, "spawn", Spawn(child("helper")))
    assert (again["agent_id"], again["created"]) == (string_to_uuid("helper"), False)
    helper = await house.instance("helper")
    await say(helper, "spawn", Spawn(child("page", secrets=("B",))))
    await eventually(lambda: ("page", 1) in node.slots)
    places = {place.agent: place for place in node.assignments[-1].placements}
    eldest = Ancestor("boss", string_to_uuid("boss"), "agents/boss")
    assert places["boss"].heritage == places["clerk"].heritage == ()
    assert (places["helper"].heritage, places["helper"].secrets) == ((eldest,), ("A",))
    assert places["page"].heritage == (eldest, Ancestor("helper", string_to_uuid("helper"), "", ("A",)))
    assert places["page"].secrets == ("B",)


async def test_f11_who_speaks_is_who_the_subject_says(house: House) -> None:
    await house.coordinator()
    stranger = await house.instance("stranger")
    with pytest.raises(Refused, match="stranger may not create children") as refused:
        await say(stranger, "spawn", Spawn(child("helper")))
    assert refused.value.reason == "no_authority"
    with pytest.raises(Refused, match="in the name of boss"):
        await say(stranger, "spawn", Spawn(child("helper")), sender="boss")
    with pytest.raises(BadMessage):
        await say(stranger, "spawn", ChildCommand("clerk", "stop"))
    assert "helper" not in await wanted(house)


async def test_f12_a_parent_commands_its_children_and_nobody_elses(house: House) -> None:
    await house.coordinator()
    node, boss, clerk = (
        await house.node("node-1"),
        await house.instance("boss"),
        await house.instance("clerk"),
    )
    await eventually(lambda: ("clerk", 1) in node.slots)
    said = await say(boss, "child", ChildCommand("clerk", "stop"))
    assert (said["agent"], said["stopped"]) == ("clerk", False)  # it was not waited for
    await eventually(lambda: ("clerk", 1) not in node.slots)
    await say(boss, "child", ChildCommand("clerk", "start"))
    await eventually(lambda: ("clerk", 1) in node.slots)
    for name, text in (
        ("stranger", "No authority over this agent"),
        ("nobody", "Child agent nobody not found"),
    ):
        for action in ("stop", "start", "restart", "remove"):
            with pytest.raises(Refused) as refused:
                await say(boss, "child", ChildCommand(name, action))
            assert str(refused.value) == text
    with pytest.raises(Refused, match="No authority"):
        await say(clerk, "child", ChildCommand("boss", "stop"))
    with pytest.raises(Refused, match="in the swarm file"):
        await say(boss, "child", ChildCommand("clerk", "remove"))
    assert set((await wanted(house)).values()) == {"running"}


async def test_operators_spawn_remove_permit_and_ask_for_a_family(house: House) -> None:
    await house.coordinator()
    await house.node("node-1")

    async def spawn(parent: str, **changes: Any) -> Any:
        new = msgspec.to_builtins(child(**changes))
        return await house.command("spawn", parent=parent, child=new, timeout=0)

    assert (await spawn("boss", name="helper", permissions={"create_children": True}))["created"]
    with pytest.raises(Refused, match="another character"):
        await spawn("boss", name="helper", version="2")
    with pytest.raises(Refused, match="did you mean boss"):
        await spawn("bos", name="other")
    permitted = await house.command("permit", agent="helper", rights={"create_children": False})
    assert permitted["permissions"]["create_children"] is False
    with pytest.raises(Refused, match="stand in the swarm file"):
        await house.command("permit", agent="clerk", rights={"create_children": False})
    assert await house.command("family", agent="boss") == {
        "agent": "boss",
        "parent": None,
        "children": ["clerk", "helper"],
        "ancestors": [],
        "subtree": ["clerk", "helper"],
    }
    boss = next(root for root in await house.command("tree") if root["name"] == "boss")
    assert [(one["name"], one["spawned"], one["orphans"]) for one in boss["children"]] == [
        ("clerk", False, "keep"),
        ("helper", True, "keep"),
    ]
    assert (await house.command("remove", agent="helper", timeout=5))["stopped"]
    assert "helper" not in {row["name"] for row in await house.command("ps")}
    with pytest.raises(Refused, match="in the swarm file"):
        await house.command("remove", agent="clerk")


async def test_only_a_node_gives_a_spawned_agent_its_login_and_no_other_agent_one(house: House) -> None:
    await house.coordinator()
    node = await house.node("node-1")
    await house.command("spawn", parent="boss", child=msgspec.to_builtins(child("helper")), timeout=0)

    async def login(agent: str, **fields: Any) -> Any:
        said = Login("node-1", string_to_uuid(agent), "SCRAM-SHA-256$4096:c2FsdA==$YQ==:Yg==")
        envelope = Envelope(
            id="1", sender="node-1", to="coordinator", room="control", kind="control",
            body=msgspec.Raw(msgspec.msgpack.encode(said)),
        )  # fmt: skip
        return await node.bus.request(house.subjects.node_up("node-1", "login"), envelope, timeout=5)

    assert msgspec.msgpack.decode((await login("helper")).body) == {"agent_id": string_to_uuid("helper")}
    with pytest.raises(Refused):
        await login("boss")
    boss = await house.instance("boss")
    with pytest.raises(Refused, match="cannot login"):
        await say(boss, "login", Login("node-1", string_to_uuid("helper"), "SCRAM-SHA-256$1:a$b:c"))


# ── the children of the dead ──────────────────────────────────────────────────────────────────────


async def quarantine(node: FakeNode, agent: str) -> None:
    """The node says that this agent's only slot has had too many crashes."""
    node.obeys = False
    row = NodeInstance(agent=agent, slot=1, instance=f"{agent}-x", pid=0, status="quarantined", restarts=5)
    node.instances = (*(one for one in node.instances if one.agent != agent), row)
    await node.say("beat", node.state())


async def test_f16_the_quarantine_of_a_parent_stops_its_orphans_until_it_is_back(house: House) -> None:
    await house.coordinator()
    node = await house.node("node-1")
    await eventually(lambda: ("clerk", 1) in node.slots)
    await quarantine(node, "boss")
    await eventually(lambda: ("clerk", 1) not in node.slots)
    assert (await wanted(house))["clerk"] == "stopped"
    node.instances = tuple(one for one in node.instances if one.agent != "boss")
    boss = await house.instance("boss")  # what was mended says hello
    await eventually(lambda: ("clerk", 1) in node.slots)
    assert (await wanted(house))["clerk"] == "running"
    await boss.die()


async def test_a_parent_that_is_away_restarts_or_crashes_is_not_dead(house: House) -> None:
    coordinator = await house.coordinator()
    node, boss = await house.node("node-1"), await house.instance("boss")
    await eventually(lambda: ("clerk", 1) in node.slots)
    await boss.die()
    await node.exited("boss", boss.name)
    node.obeys = False
    waits = NodeInstance(agent="boss", slot=1, instance="boss-x", pid=0, status="backoff", restarts=4)
    node.instances = (*(one for one in node.instances if one.agent != "boss"), waits)
    await node.say("beat", node.state())
    await eventually(lambda: not coordinator.term.presence.of("boss"))  # type: ignore[union-attr]
    assert not await coordinator.term.orphans.settle()  # type: ignore[union-attr]
    assert (await wanted(house))["clerk"] == "running"


async def test_f16_stopping_a_parent_is_its_death_generation_by_generation(house: House) -> None:
    first = await house.coordinator()
    node = await house.node("node-1")
    chief = child("chief", permissions={"create_children": True}, orphans="stop")
    await house.command("spawn", parent="boss", child=msgspec.to_builtins(chief), timeout=0)
    await house.command("spawn", parent="chief", child=msgspec.to_builtins(child("page")), timeout=0)
    await eventually(lambda: ("page", 1) in node.slots)
    await house.command("stop", agent="boss", timeout=5)
    await eventually(lambda: node.slots == {("stranger", 1)})
    # What an operator says of an orphan stands, whoever coordinates then.
    await house.command("start", agent="page", timeout=0)
    await eventually(lambda: ("page", 1) in node.slots)
    other = await house.coordinator(wait=False)
    await house.kill(first)
    await eventually(lambda: other.active)
    assert not await other.term.orphans.settle()  # type: ignore[union-attr]
    assert (await wanted(house))["page"] == "running"
    assert (await wanted(house))["chief"] == "stopped"


@pytest.mark.parametrize(("orphans", "parent"), [("reparent", "boss"), ("keep", "chief")])
async def test_f16_orphans_go_to_their_grandparent_or_are_kept(
    house: House, orphans: Any, parent: str
) -> None:
    await house.coordinator()
    node = await house.node("node-1")
    chief = child("chief", permissions={"create_children": True}, orphans=orphans)
    await house.command("spawn", parent="boss", child=msgspec.to_builtins(chief), timeout=0)
    await house.command("spawn", parent="chief", child=msgspec.to_builtins(child("page")), timeout=0)
    await house.command("remove", agent="chief", timeout=5)

    async def died() -> bool:
        return any(r.name == "chief" and r.died_at is not None for r in await house.ledger().agents())

    await eventually(died)
    page = next(record for record in await house.ledger().agents() if record.name == "page")
    assert (page.parent, page.desired) == (parent, "running")
    await eventually(lambda: ("page", 1) in node.slots)
