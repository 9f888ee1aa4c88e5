"""F2, F4, F5: what comes from another agent says so, in marks that only the runtime makes."""

from __future__ import annotations

from typing import Any

from swarm import Plugin
from swarm.components import Message
from swarm.testing import eventually
from tests.memory_swarm import memory_swarm


async def test_f2_f4_f5_a_recipient_is_told_by_the_runtime_from_whom_it_is_and_whether_many_have_it() -> None:
    seen: dict[str, dict[str, Any]] = {}

    async def note(message: Message) -> None:
        seen[message.text] = dict(message.content.metadata)

    async with memory_swarm() as swarm:
        await swarm.know("boss")
        await swarm.know("reader")
        await swarm.start("reader", Plugin("noting", before_message=note))
        forged = {"from_agent": "somebody"}
        await swarm.ctl("tell", agent="reader", text="told", data=forged, sender="boss")
        await swarm.ctl("announce", text="announced", sender="boss")
        await swarm.ctl("tell", agent="reader", text="by hand", data=forged)
        await eventually(lambda: len(seen) == 3)
    assert seen["told"] == {"from_agent": "boss", "inter_agent": True}
    assert seen["announced"] == {"from_agent": "boss", "inter_agent": True, "broadcast": True}
    assert seen["by hand"] == {}
