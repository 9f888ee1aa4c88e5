"""A whole agent's life in memory, played once where agents are forked from, so that none of them pays for first times.

What is done for the first time is slow: modules that are imported when they are needed, patterns and signatures
that are compiled, code that the interpreter adapts to what it runs. The warm parent calls `rehearse` before it
forks, and keeps nothing else of it: no loop, no thread, no descriptor. What is an agent's own, `warming.py` warms.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Any, Final

from swarm.components import Action, Evaluator, Message, Provider

TURNS: Final = 16
"""The interpreter adapts a function after some calls."""


def rehearse() -> None:
    """Raises what a broken installation raises; the warm parent says so and ends."""
    before = logging.root.manager.disable
    logging.disable()
    try:
        asyncio.run(_live())
    finally:
        logging.disable(before)


async def _live() -> None:
    from swarm.agent.runtime import AgentRuntime
    from swarm.ids import new_id
    from swarm.plugin import Plugin
    from swarm.records import Content

    plugin = Plugin(
        "rehearsal",
        actions=[Action("REPEAT", _repeat), Action("SPEAK", _speak)],
        providers=[Provider("STAGE", _stage)],
        evaluators=[Evaluator("LENGTH", _length)],
    )
    runtime = AgentRuntime({"name": "Understudy", "bio": "Rehearses."}, plugins=[plugin])
    await runtime.initialize()
    try:
        for turn in range(TURNS):
            for text in ("repeat: it", "what could one say"):
                content = Content(text=text, data={"times": 2})
                room = f"stage-{turn % 2}"
                await runtime.process_message(
                    Message(id=new_id(), sender="prompter", room=room, kind="ask", content=content)
                )
    finally:
        await runtime.stop()


async def _stage() -> dict[str, Any]:
    return {"text": "It is a rehearsal.", "data": {}}


async def _repeat(message: Message, *, times: int = 1) -> str:
    """Says again what was said."""
    return message.text * times


async def _speak(message: Message) -> str:
    """Speaks."""
    return message.text


async def _length(response: Any) -> int:
    return len(response.text)
