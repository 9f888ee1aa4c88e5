"""G4: an eager agent's first message finds everything warm. And P5: many messages leave nothing behind."""

from __future__ import annotations

import gc
import subprocess
import sys
from typing import Any

from swarm.agent.rehearsal import rehearse
from swarm.agent.runtime import AgentRuntime
from swarm.components import Action, Evaluator, Provider
from swarm.errors import StoreDown
from swarm.plugin import Plugin
from swarm.signatures import _named_once
from swarm.testing import ScriptedModel, agent, eventually, say

CHARACTER = {"name": "Ada", "bio": "Counts."}


def make() -> tuple[Plugin, list[str]]:
    called: list[str] = []

    async def act(message: Any) -> str:
        """Acts."""
        called.append("action")
        return f"done: {message.text}"

    async def provide() -> str:
        called.append("provider")
        return "It is a fine day."

    async def evaluate(response: Any) -> int:
        called.append("evaluator")
        return len(response.text)

    async def valid(message: Any) -> bool:
        called.append("validate")
        return True

    plugin = Plugin(
        "p",
        actions=[Action("ACT", act, validate=valid), Action("OTHER", act)],
        providers=[Provider("DAY", provide)],
        evaluators=[Evaluator("LENGTH", evaluate)],
    )
    return plugin, called


async def test_g4_an_eager_agent_reads_every_signature_and_asks_its_store_before_its_first_message() -> None:
    plugin, called = make()
    _named_once.cache_clear()
    async with agent(CHARACTER, plugin) as runtime:
        assert called == []  # nothing of a plugin is run for it
        before = _named_once.cache_info().misses
        assert (await say(runtime, "act: now")).status == "handled"
        await eventually(lambda: "evaluator" in called)
        assert _named_once.cache_info().misses == before


async def test_g4_what_is_warmed_is_a_turns_questions_to_the_store_and_writes_nothing() -> None:
    async def asked_at_start(mode: str) -> list[str]:
        asked: list[str] = []
        runtime = AgentRuntime(CHARACTER, plugins=[make()[0]], settings={"load": mode})
        for name in ("get_memories", "commit"):
            _note(runtime.adapter, name, asked)
        await runtime.initialize()
        assert await runtime.adapter.count_memories() == 0
        await runtime.stop()
        return asked

    assert await asked_at_start("eager") == ["get_memories", "commit"]
    assert await asked_at_start("lazy") == []


def _note(store: Any, name: str, asked: list[str]) -> None:
    call = getattr(store, name)

    async def noted(*given: Any, **named: Any) -> Any:
        asked.append(name)
        return await call(*given, **named)

    setattr(store, name, noted)


async def test_g4_a_store_that_is_away_while_it_is_warmed_stops_no_start() -> None:
    runtime = AgentRuntime(CHARACTER, plugins=[make()[0]])

    async def away(*_: Any, **__: Any) -> Any:
        raise StoreDown("The test took it away.")

    runtime.adapter.commit = away  # type: ignore[method-assign]
    await runtime.initialize()
    assert runtime.is_initialized
    await runtime.stop()


def test_g4_after_a_rehearsal_a_first_message_imports_nothing_and_nothing_of_it_is_left() -> None:
    """In a process of its own, as the warm parent is."""
    code = """
import asyncio, os, sys, threading
import swarm.agent.process
from swarm.agent.rehearsal import rehearse
from swarm.testing import agent, say
from tests.unit.test_warm_start import CHARACTER, make

open_before = set(os.listdir("/proc/self/fd"))
rehearse()
assert set(os.listdir("/proc/self/fd")) == open_before
assert threading.active_count() == 1
known = set(sys.modules)

async def first():
    async with agent(CHARACTER, make()[0]) as runtime:
        assert (await say(runtime, "what could one do")).status == "handled"

asyncio.run(first())
print(sorted(set(sys.modules) - known))
"""
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert (ran.stdout.strip(), ran.stderr) == ("[]", "")


async def test_thousands_of_turns_with_everything_on_leave_no_memory_behind() -> None:
    """P5; 100,000 of them: `make endurance`."""
    plugin, called = make()
    model = ScriptedModel(choices=["ACT"] * 4000)
    async with agent(CHARACTER, plugin, model.plugin()) as runtime:

        async def turns(count: int) -> int:
            for number in range(count):
                await say(runtime, f"please do number {number}", room=f"room-{number % 20}")
            await eventually(lambda: not runtime._background)
            model.asked.clear()
            called.clear()
            runtime.adapter._database.shelves.clear()  # type: ignore[attr-defined]
            gc.collect()
            return sys.getallocatedblocks()

        await turns(500)
        before = await turns(500)
        after = await turns(3000)
    assert after - before < 1500  # blocks of memory: one for every second turn


def test_a_rehearsal_may_be_played_twice() -> None:
    rehearse()
    rehearse()
