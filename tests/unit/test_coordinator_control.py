"""Operators see what is and change what should be; nodes are told until they agree."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import msgspec
import pytest

from bus.errors import NobodyThere, Refused
from swarm.protocol import NodeInstance
from swarm.records import AgentPermissions, Content, TaskOutcome, Turn
from swarm.testing import eventually, others_run
from tests.coordinator_house import House, a_house, plan

ROW = {
    "name", "agent_id", "instance", "status", "node", "pid", "inbox", "in_flight", "restarts", "rss_mb",
    "turns", "errors", "version", "reason",
}  # fmt: skip


@pytest.fixture
async def house() -> AsyncIterator[House]:
    async with a_house() as house:
        rights = AgentPermissions(create_children=True, control_children=True)
        await house.provision(
            plan("surveyor", permissions=rights), plan("reader", parent="surveyor", replicas=2)
        )
        yield house


async def test_ps_has_a_row_for_each_instance_and_one_for_each_absent_agent(house: House) -> None:
    await house.coordinator()
    reader = await house.instance("reader")
    await house.command("tell", agent="surveyor", text="waits")
    rows = await house.command("ps")
    assert all(set(row) >= ROW for row in rows)
    assert [(r["name"], r["instance"], r["status"], r["inbox"]) for r in rows] == [
        ("reader", reader.name, "ready", 0),
        ("surveyor", "", "absent", 1),
    ]
    assert [row["name"] for row in await house.command("ps", all=False)] == ["reader"]


async def test_ps_shows_what_only_the_node_knows(house: House) -> None:
    await house.coordinator()
    node = await house.node("node-1")
    node.obeys = False
    await eventually(lambda: node.assignments)
    node.instances = (
        NodeInstance(agent="reader", slot=1, instance="r1", pid=5, status="starting"),
        NodeInstance(
            agent="reader",
            slot=2,
            instance="r2",
            pid=0,
            status="quarantined",
            restarts=5,
            reason="it crashed",
        ),
    )
    await node.say("beat", node.state())
    rows = [row for row in await house.command("ps") if row["name"] == "reader"]
    assert [(r["instance"], r["status"], r["restarts"], r["reason"]) for r in rows] == [
        ("r1", "starting", 0, ""),
        ("r2", "quarantined", 5, "it crashed"),
    ]


async def test_the_tree_shows_parents_children_and_permissions(house: House) -> None:
    await house.coordinator()
    [root] = await house.command("tree")
    assert root["name"] == "surveyor" and root["permissions"]["control_children"] is True
    [child] = root["children"]
    assert child["name"] == "reader" and child["parent"] == "surveyor" and child["children"] == []


async def test_a_task_is_delegated_waited_for_and_shown(house: House) -> None:
    await house.coordinator()
    reader = await house.instance("reader", hands_on="hold")

    async def work() -> None:
        await eventually(lambda: reader.in_hand)
        [(delivery, envelope)] = reader.in_hand.items()
        outcome = TaskOutcome(task=envelope.id, state="completed", result=Content(text="done"))
        await reader.store.commit(Turn(delivery=delivery, attempt=envelope.attempt, outcome=outcome))
        reader.in_hand.clear()
        await reader.ring("surveyor")

    async with asyncio.TaskGroup() as group:
        group.create_task(work())
        done = await house.command("delegate", agent="reader", goal="read it", input={"a": 1}, wait=True)
    assert (done["state"], done["attempts"], done["error"]) == ("completed", 1, None)
    assert done["result"] == {"text": "done", "data": {}}
    shown = await house.command("task_show", id=done["id"])
    assert (shown["parent"], shown["child"], shown["goal"], shown["subtasks"]) == (
        "operator", "reader", "read it", [],
    )  # fmt: skip
    assert [task["id"] for task in await house.command("task_ls")] == [done["id"]]
    assert (await house.command("task_wait", id=done["id"]))["state"] == "completed"
    with pytest.raises(Refused, match="No authority over this agent"):
        await house.command("delegate", agent="surveyor", goal="up?", sender="reader")


async def test_a_task_past_its_deadline_fails_while_its_child_is_away(house: House) -> None:
    await house.coordinator()
    done = await house.command("delegate", agent="reader", goal="read it", deadline=0.05, wait=True)
    assert done["state"] == "failed" and "deadline" in done["error"]


async def test_placement_converges_on_what_is_wanted(house: House) -> None:
    await house.coordinator()
    node = await house.node("node-1")
    everything = {("surveyor", 1), ("reader", 1), ("reader", 2)}
    await eventually(lambda: node.slots == everything)
    number = len(node.assignments)
    await house.command("converge")
    await node.say("beat", node.state())
    await house.command("ping")
    assert len(node.assignments) == number, "what agrees is not sent again"
    await house.provision(plan("surveyor"))
    await house.command("converge")
    await eventually(lambda: node.slots == {("surveyor", 1)})


async def test_an_assignment_that_was_lost_is_sent_again(house: House) -> None:
    await house.coordinator()
    node = await house.node("node-1")
    node.obeys = False
    await eventually(lambda: len(node.assignments) >= 3)
    node.obeys = True
    await eventually(lambda: len(node.instances) == 3)


async def test_two_nodes_share_and_one_takes_over_from_the_other(house: House) -> None:
    await house.coordinator()
    one, two = await house.node("node-1"), await house.node("node-2")
    await eventually(lambda: len(one.slots) + len(two.slots) == 3)
    assert one.slots.isdisjoint(two.slots) and one.slots and two.slots
    two.beating = False
    await eventually(lambda: len(one.slots) == 3)
    two.beating = True  # it comes back with what it ran: that is not wanted there any more
    await eventually(lambda: two.slots == set() and two.instances == ())
    assert len(one.slots) == 3


async def test_a_new_coordinator_leaves_everything_where_it_runs(house: House) -> None:
    first = await house.coordinator()
    one, two = await house.node("node-1"), await house.node("node-2")
    await eventually(lambda: len(one.slots) + len(two.slots) == 3)
    before = (one.slots, two.slots)
    await house.command("restart", agent="surveyor", timeout=0.01)
    await eventually(lambda: any(row.generation == 1 for node in (one, two) for row in node.instances))
    await house.kill(first)
    second = await house.coordinator()
    await eventually(lambda: second.metrics.assignments >= 2)
    assert (one.slots, two.slots) == before
    generations = {p.agent: p.generation for node in (one, two) for p in node.assignments[-1].placements}
    assert generations["surveyor"] == 1, "nothing is restarted by a takeover"


async def test_stop_drains_and_start_waits_until_all_are_ready(house: House) -> None:
    await house.coordinator()
    node = await house.node("node-1")
    readers = [await house.instance("reader"), await house.instance("reader")]
    await eventually(lambda: len(node.slots) == 3)

    async def obey() -> None:
        await eventually(lambda: node.slots == {("surveyor", 1)})
        for reader in readers:
            await reader.goodbye()

    async with asyncio.TaskGroup() as group:
        group.create_task(obey())
        stopped = await house.command("stop", agent="reader")
    assert stopped == {"agent": "reader", "stopped": True, "instances": []}
    row = next(row for row in await house.command("ps") if row["name"] == "reader")
    assert (row["status"], row["reason"]) == ("absent", "stopped")

    async def rise() -> None:
        await eventually(lambda: len(node.slots) == 3)
        await house.instance("reader")
        await house.instance("reader")

    async with asyncio.TaskGroup() as group:
        group.create_task(rise())
        started = await house.command("start", agent="reader")
    assert started["ready"] and len(started["instances"]) == 2


async def test_stop_says_what_is_left_when_its_time_is_over(house: House) -> None:
    await house.coordinator()
    reader = await house.instance("reader")
    stopped = await house.command("stop", agent="reader", timeout=0.1)
    assert stopped == {"agent": "reader", "stopped": False, "instances": [reader.name]}


async def test_start_without_a_node_says_so(house: House) -> None:
    await house.coordinator()
    with pytest.raises(NobodyThere, match="no node has joined"):
        await house.command("start", agent="surveyor")


async def test_an_exit_reported_by_another_node_is_not_believed(house: House) -> None:
    coordinator = await house.coordinator()
    await house.node("node-1")
    other = await house.node("node-2")
    reader = await house.instance("reader")  # of node-1
    await other.exited("reader", reader.name)
    await house.command("ping")
    assert coordinator.term is not None and reader.name in coordinator.term.presence.instances


async def test_stats_and_ping_answer(house: House) -> None:
    coordinator = await house.coordinator()
    await house.command("tell", agent="reader", text="x")
    stats = await house.command("stats")
    assert stats["ledger"]["deliveries.accepted"] == 1 and stats["coordinator"]["terms"] == 1
    ping = await house.command("ping")
    assert ping == {"coordinator": coordinator.holder, "epoch": 1, "agents": 2, "instances": 0, "nodes": 0}


async def test_an_instance_that_was_started_and_never_says_hello_is_ended_by_its_node(house: House) -> None:
    house.settings = msgspec.structs.replace(house.settings, hello_seconds=0.3)
    await house.coordinator()
    node = await house.node("node-1")
    await eventually(lambda: {"reader-1-0", "reader-2-0", "surveyor-1-0"} <= set(node.unresponsive))
    node.instances = node.instances[:0]
    node.unresponsive.clear()
    await house.instance("reader")  # this one speaks
    await others_run(20)
    assert node.unresponsive == []
