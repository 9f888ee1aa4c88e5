"""G4: the first message of an agent in a process that has just started, beside those that follow.

Run by `bench/turn.py` as a process of its own: ``python -m bench.first MODE [URL ID]`` prints one JSON object,
in milliseconds: ``{"start", "first", "then"}``, `then` being the median of the following turns.
"""

from __future__ import annotations

import asyncio
import sys
import time
from statistics import median
from typing import Any, Final

import msgspec

from bench.work import CHARACTER, Choosing, plugin
from swarm.agent.rehearsal import rehearse
from swarm.agent.runtime import AgentRuntime
from swarm.stores.postgres import PostgresStore
from swarm.testing import say

TURNS: Final = 60


async def measure(mode: str, url: str = "", id: str = "") -> dict[str, Any]:
    store = PostgresStore(url, "bench", "bench", id, sole=True) if url else None
    runtime = AgentRuntime(CHARACTER, store, [plugin(), Choosing().plugin()], {"load": mode})
    began = time.perf_counter()
    await runtime.initialize()
    start, took = time.perf_counter() - began, []
    for number in range(TURNS):
        began = time.perf_counter()
        await say(runtime, f"please do number {number}", room=f"room-{number % 20}")
        took.append((time.perf_counter() - began) * 1000)
    await runtime.stop()
    return {"start": start * 1000, "first": took[0], "then": median(took[20:])}


if __name__ == "__main__":
    rehearse()  # as the warm parent does, of which agents are forked
    print(msgspec.json.encode(asyncio.run(measure(*sys.argv[1:]))).decode())
