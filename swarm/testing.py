"""For tests of agents and plugins, yours and ours: no servers, no waiting, the same contracts.

    runtime = await started_agent({"name": "Ada", "bio": "counts"}, plugin)
    result = await say(runtime, "count these words")
    assert result.response.text == "3 words"

`MemoryDatabase` and `MemoryBroker` are held to the same suites as Postgres and NATS.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

from bus.buses.memory import MemoryBroker
from swarm.agent.hand import MessageResult
from swarm.agent.models.types import ChoiceReply, ChoiceRequest, TextReply, TextRequest
from swarm.agent.runtime import AgentRuntime
from swarm.components import Message
from swarm.ids import new_id
from swarm.plugin import ModelHandler, Plugin
from swarm.records import Content
from swarm.stores.memory import MemoryDatabase

__all__ = [
    "MemoryBroker",
    "MemoryDatabase",
    "ScriptedModel",
    "VirtualClock",
    "agent",
    "eventually",
    "eventually_sync",
    "others_run",
    "say",
    "started_agent",
]


class VirtualClock:
    """A clock that a test turns: call it for Unix seconds, `advance` it by seconds. Its `sleep` takes no
    time but its own, and keeps what was slept in `slept`."""

    def __init__(self, now: float = 1_700_000_000.0) -> None:
        self.now = now
        self.slept: list[float] = []

    def __call__(self) -> float:
        return self.now

    def advance(self, seconds: float) -> None:
        self.now += seconds

    async def sleep(self, seconds: float) -> None:
        """For what takes an injected sleep."""
        self.slept.append(seconds)
        self.advance(seconds)
        await others_run()


class ScriptedModel:
    """A model that answers from a script, in order, and keeps what it was asked. A choice may be a plan of
    several names. Out of lines it raises."""

    def __init__(
        self, *, texts: Sequence[str] = (), choices: Sequence[str | Sequence[str] | None] = ()
    ) -> None:
        self._texts = list(texts)
        self._choices = list(choices)
        self.asked: list[TextRequest | ChoiceRequest] = []

    async def text(self, request: TextRequest) -> TextReply:
        self.asked.append(request)
        return TextReply(self._texts.pop(0), model="scripted")

    async def choose(self, request: ChoiceRequest) -> ChoiceReply:
        self.asked.append(request)
        said = self._choices.pop(0)
        if not said:
            return ChoiceReply(name=None, outcome="abstained")
        names = (said,) if isinstance(said, str) else tuple(said)
        return ChoiceReply(name=names[0], plan=names, outcome="chosen", confidence=1.0)

    def plugin(self) -> Plugin:
        models = [
            ModelHandler("text_large", self.text, "scripted", 100),
            ModelHandler("text_small", self.text, "scripted", 100),
            ModelHandler("choice", self.choose, "scripted", 100),
        ]
        return Plugin("scripted-model", models=models)


@asynccontextmanager
async def agent(
    character: Mapping[str, Any] | str, *plugins: Plugin, **fields: Any
) -> AsyncIterator[AgentRuntime]:
    """A started agent that is stopped at the end. A plain name makes a minimal character."""
    runtime = await started_agent(character, *plugins, **fields)
    try:
        yield runtime
    finally:
        await runtime.stop()


async def started_agent(character: Mapping[str, Any] | str, *plugins: Plugin, **fields: Any) -> AgentRuntime:
    """A started agent on a store in memory; stop it yourself."""
    document = {"name": character, "bio": "An agent in a test."} if isinstance(character, str) else character
    runtime = AgentRuntime(document, plugins=plugins, **fields)
    await runtime.initialize()
    return runtime


async def say(
    runtime: AgentRuntime,
    text: str = "",
    *,
    data: Mapping[str, Any] | None = None,
    room: str = "test",
    kind: str = "ask",
    sender: str = "tester",
    id: str | None = None,
) -> MessageResult:
    """Give the agent a message and wait for what becomes of it."""
    message = Message(
        id=id or new_id(),
        sender=sender,
        room=room,
        kind=kind,
        content=Content(text=text, data=dict(data or {})),
        received_at=int(time.time() * 1000),
    )
    return await runtime.process_message(message)


async def eventually(
    condition: Callable[[], Any | Awaitable[Any]], *, seconds: float = 10.0, what: str = "the condition"
) -> Any:
    """Wait until `condition` gives something true, and return it. AssertionError after `seconds`."""
    deadline = time.monotonic() + seconds
    pause = 0.001  # what is nearly there costs no more than that; what takes longer is looked at less often
    while True:
        value = condition()
        if isinstance(value, Awaitable):
            value = await value
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"{what} did not come true within {seconds:g} s")
        await asyncio.sleep(pause)
        pause = min(pause * 1.5, 0.02)


def eventually_sync(
    condition: Callable[[], Any], *, seconds: float = 30.0, what: str = "the condition"
) -> Any:
    """`eventually` for a test without an event loop, of other processes: what it polls may be dear, so it
    looks every 50 ms in the end."""
    deadline = time.monotonic() + seconds
    pause = 0.001
    while not (value := condition()):
        if time.monotonic() > deadline:
            raise AssertionError(f"{what} did not come true within {seconds:g} s")
        time.sleep(pause)
        pause = min(pause * 1.5, 0.05)
    return value


async def others_run(rounds: int = 1) -> None:
    """Let the other tasks of the loop go on, as far as they can without waiting. No time passes."""
    for _ in range(rounds):
        await asyncio.sleep(0)
