"""What evaluators found is written for several turns at once (D18, P5)."""

from __future__ import annotations

import asyncio
from typing import Any

from swarm.components import Action, Evaluator
from swarm.errors import StoreError
from swarm.plugin import Plugin
from swarm.records import Committed, Turn
from swarm.testing import agent, eventually, say


async def echo(message: Any) -> str:
    """Echoes."""
    return str(message.text)


async def measure(response: Any) -> int:
    return len(response.text)


PLUGIN = Plugin("p", actions=[Action("ECHO", echo)], evaluators=[Evaluator("LENGTH", measure)])


async def test_d18_the_findings_of_many_turns_are_rows_of_their_own_in_few_transactions() -> None:
    async with agent("Ada", PLUGIN) as runtime:
        late: list[int] = []
        commit = runtime.adapter.commit

        async def counted(turn: Turn) -> Committed:
            if turn.memories and all(m.kind == "evaluation" for m in turn.memories):
                late.append(len(turn.memories))
            return await commit(turn)

        runtime.adapter.commit = counted  # type: ignore[method-assign]
        for n in range(100):
            await say(runtime, f"echo: {n}")

        async def all_written() -> bool:
            return await runtime.adapter.count_memories(kind="evaluation") == 100

        await eventually(all_written)
        assert sum(late) == 100 and len(late) <= 20


async def test_findings_that_the_store_refuses_are_lost_alone_and_counted() -> None:
    async with agent("Ada", PLUGIN) as runtime:
        commit = runtime.adapter.commit

        async def refusing(turn: Turn) -> Committed:
            if any(m.content.data.get("data") == len("echo: 3333") for m in turn.memories):
                raise StoreError("The test refuses this one.")
            return await commit(turn)

        runtime.adapter.commit = refusing  # type: ignore[method-assign]
        await asyncio.gather(*(say(runtime, f"echo: {text}", room=text) for text in ("1", "22", "3333", "4")))

        async def the_others_are_there() -> bool:
            return await runtime.adapter.count_memories(kind="evaluation") == 3

        await eventually(the_others_are_there)
        await eventually(lambda: runtime.metrics.failures["store after the turn"] == 1)


async def test_an_agent_that_stops_writes_what_was_found() -> None:
    written: list[int] = []
    async with agent("Ada", PLUGIN) as runtime:
        commit = runtime.adapter.commit

        async def counted(turn: Turn) -> Committed:
            written.extend(1 for m in turn.memories if m.kind == "evaluation")
            return await commit(turn)

        runtime.adapter.commit = counted  # type: ignore[method-assign]
        await say(runtime, "echo: last words")
    assert written == [1]
