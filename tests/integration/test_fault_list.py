"""Faults of the source that had no test of their own yet, on the real coordinator, mailboxes and turns in memory.

All 24, and which tests hold each: docs/faults.md.
"""

from __future__ import annotations

import asyncio
from typing import Any

from swarm.components import Action, ActionOptions, Message
from swarm.plugin import Plugin
from swarm.testing import agent, eventually, say
from tests.memory_swarm import memory_swarm


def noting(heard: list[str]) -> Plugin:
    async def note(message: Message) -> str:
        """Notes what it hears."""
        heard.append(message.text)
        return f"noted {message.text}"

    return Plugin("noting", actions=[Action("NOTE", note)])


async def test_fault_2_a_reconnecting_agent_gets_its_backlog_in_order_and_nothing_of_it_is_wiped() -> None:
    """Registering again wiped the queue and added a second listener: mail was lost, or came twice."""
    heard: list[str] = []
    async with memory_swarm(["reader"]) as swarm:
        for n in range(6):
            await swarm.ctl("tell", agent="reader", text=str(n))
        await swarm.know("reader")  # provisioned again while its mail waits
        assert (await swarm.ctl("inbox", agent="reader"))["waiting"] == 6
        await swarm.start("reader", noting(heard))
        await eventually(lambda: len(heard) == 6)
        await swarm.end("reader")
        await swarm.ctl("tell", agent="reader", text="6")
        await swarm.start("reader", noting(heard))
        await eventually(lambda: len(heard) >= 7)
        await eventually(lambda: all(row.state == "handled" for row in swarm.database.deliveries.values()))
    assert heard == [str(n) for n in range(7)]


async def test_fault_9_a_broadcast_survives_a_recipient_that_fails_and_does_not_echo() -> None:
    """One failing recipient failed the whole broadcast, and the sender got its own."""
    heard: dict[str, list[str]] = {"a": [], "c": []}

    async def explode(message: Message) -> None:
        """Fails."""
        raise RuntimeError("not today")

    async with memory_swarm(["a", "b", "c"]) as swarm:
        await swarm.start("a", noting(heard["a"]))
        await swarm.start("b", Plugin("bad", actions=[Action("EXPLODE", explode)]))
        await swarm.start("c", noting(heard["c"]))
        report = await swarm.ctl("announce", text="news", sender="a", wait=10.0)
        assert report["recipients"] == 2 and report["pending"] == []
    assert heard == {"a": [], "c": ["news"]}


async def test_fault_17_a_message_that_is_tried_again_leaves_its_effects_once() -> None:
    """A retry ran the whole pipeline again: memories twice, messages twice, payments twice."""
    keys: list[str] = []
    heard: list[str] = []
    first, go_on = asyncio.Event(), asyncio.Event()

    async def pay(runtime: Any, options: ActionOptions) -> str:
        """Pays."""
        keys.append(options.key)
        await runtime.remember("paid", kind="payment")
        await runtime.peers.tell("scribe", "paid")
        if len(keys) == 1:
            first.set()
            await go_on.wait()
        return "paid"

    async with memory_swarm(["payer", "scribe"]) as swarm:
        await swarm.start("scribe", noting(heard))
        await swarm.start("payer", Plugin("p", actions=[Action("PAY", pay)]))
        await swarm.ctl("tell", agent="payer", text="pay: 3")
        await first.wait()
        await swarm.kill("payer")  # in the middle: nothing of that turn is written
        await swarm.start("payer", Plugin("p", actions=[Action("PAY", pay)]))
        await eventually(lambda: heard == ["paid"])
        await eventually(lambda: all(row.state == "handled" for row in swarm.database.deliveries.values()))
        assert await swarm.database.store("payer").count_memories(kind="payment") == 1
    assert len(keys) == 2 and len(set(keys)) == 1, "whoever is paid can tell that it is one payment"
    assert heard == ["paid"]


async def test_fault_20_scaling_down_loses_nothing() -> None:
    """Scaling down popped an instance with its requests in flight."""
    heard: list[str] = []
    begun, go_on = asyncio.Event(), asyncio.Event()

    async def slow(message: Message) -> str:
        """Notes slowly."""
        begun.set()
        await go_on.wait()
        heard.append(message.text)
        return "done"

    async with memory_swarm() as swarm:
        await swarm.know("reader", replicas=2, balance="round-robin")
        for slot in (1, 2):
            await swarm.start("reader", Plugin("p", actions=[Action("NOTE", slow)]), slot=slot)
        for n in range(12):
            await swarm.ctl("tell", agent="reader", text=str(n), room=f"room {n}")
        await begun.wait()
        async with asyncio.TaskGroup() as group:
            ending = group.create_task(swarm.end("reader", slot=2))
            await swarm.know("reader", replicas=1, balance="round-robin")
            go_on.set()
        assert ending.result() == 0
        await eventually(lambda: all(row.state == "handled" for row in swarm.database.deliveries.values()))
    assert sorted(heard, key=int) == [str(n) for n in range(12)]


async def test_fault_23_stopping_one_agent_leaves_the_others_at_work_with_their_data() -> None:
    """The abandoned Python port closed the shared adapter and wiped everybody's data."""
    heard: list[str] = []
    async with memory_swarm(["reader", "scribe"]) as swarm:
        await swarm.start("reader", noting([]))
        await swarm.start("scribe", noting(heard))
        await swarm.ctl("ask", agent="scribe", text="before", timeout=5)
        before = await swarm.database.store("scribe").count_memories()
        assert await swarm.end("reader") == 0
        assert before and await swarm.database.store("scribe").count_memories() == before
        assert (await swarm.ctl("ask", agent="scribe", text="after", timeout=5))["text"] == "noted after"
    assert heard == ["before", "after"]


async def test_fault_14_a_provider_may_return_nothing_and_the_message_has_its_answer() -> None:
    """A provider that returned nothing crashed the merge, outside of every try."""
    plugin = Plugin("p")

    @plugin.provider()
    async def nothing() -> None:
        return None

    @plugin.action()
    async def look(state: Any) -> str:
        return f"{sorted(state.providers)} {state.context!r}"

    async with agent("Ada", plugin) as runtime:
        result = await say(runtime, "look: around")
    assert result.response is not None and result.response.text == "[] ''"
