"""Nothing accepted is lost, done twice, or out of order, whatever process dies: I1, I2, I3 on real processes."""

from __future__ import annotations

import asyncio
import os
import random
import signal
from collections import defaultdict
from pathlib import Path
from typing import Any

from swarm.testing import eventually
from tests.running import Running, running_swarm

NAMES = ("ada", "bob", "cyd", "dan")
ROOMS = 3
ROUNDS = 25
EACH = 5
"""4 agents × 25 rounds × 5 messages = 500 messages between agents."""

PLUGIN = '''
from swarm import Plugin

NAMES = ("ada", "bob", "cyd", "dan")
ROOMS, EACH = 3, 5
plugin = Plugin("chatter")


@plugin.action()
async def go(message, runtime):
    """Tells the others: each (recipient, room) gets the numbers 0, 1, 2, … in order."""
    round = message.content.data["round"]
    others = [name for name in NAMES if name != runtime.name]
    for n in range(round * EACH, round * EACH + EACH):
        lane = n % (len(others) * ROOMS)
        to, room = others[lane % len(others)], f"room-{lane // len(others)}"
        await runtime.peers.tell(to, "take: it", room=room, data={"n": n // (len(others) * ROOMS)})


@plugin.action()
async def take(message, runtime):
    """Takes a number: the effect is a memory, written with the turn."""
    data = {"sender": message.sender, "room": message.room, "n": message.content.data["n"]}
    await runtime.remember(kind="effect", data=data)
'''

FILES = {
    **{f"agents/{name}/character.json": f'{{"name": "{name}", "bio": "Chats."}}' for name in NAMES},
    **{f"agents/{name}/plugin.py": PLUGIN for name in NAMES},
}
TOML = "[swarm]\nname = 'kills'\n" + "".join(f"[agents.{n}]\ncharacter = 'agents/{n}'\n" for n in NAMES)


async def deliveries(running: Running) -> dict[str, int]:
    async with running.client() as swarm:
        stats: dict[str, int] = (await swarm.stats())["ledger"]
    return stats


async def test_500_messages_between_agents_that_are_killed_twice_a_second(tmp_path: Path) -> None:
    rng = random.Random(int(os.environ.get("SEED") or "7"))
    async with running_swarm(tmp_path / "kills", TOML, FILES) as running:
        async with running.client() as swarm, asyncio.TaskGroup() as group:
            killed: list[str] = []
            over = asyncio.Event()

            async def nemesis() -> None:
                while not over.is_set():
                    try:
                        async with asyncio.timeout(0.5):
                            await over.wait()
                    except TimeoutError:
                        rows = [row for row in await swarm.ps() if row["pid"]]
                        if not rows:
                            continue
                        victim = rng.choice(rows)
                        try:
                            os.kill(victim["pid"], signal.SIGKILL)
                            killed.append(victim["name"])
                        except ProcessLookupError:
                            continue

            group.create_task(nemesis())
            for round in range(ROUNDS):
                for name in NAMES:
                    await swarm.tell(name, "go: on", data={"round": round}, room="go")
                # Spread over the kills: a fifth of the rounds for each.
                await eventually(lambda due=round // 5: len(killed) >= due, seconds=30, what="another kill")
            over.set()
        assert len(killed) >= 4, killed

        async def quiet() -> Any:
            stats = await deliveries(running)
            open_ = stats.get("deliveries.accepted", 0) + stats.get("deliveries.dispatched", 0)
            return stats if open_ == 0 else None

        stats = await eventually(quiet, seconds=90, what="an empty ledger")
        assert stats.get("deliveries.dead", 0) == 0, stats
        assert stats["deliveries.handled"] == ROUNDS * len(NAMES) * (1 + EACH)
        await check_effects(running)


async def check_effects(running: Running) -> None:
    lanes: dict[tuple[str, str, str], list[int]] = defaultdict(list)
    for name in NAMES:
        for effect in await effects(running, name):
            lanes[name, effect["sender"], effect["room"]].append(effect["n"])
    assert sum(len(numbers) for numbers in lanes.values()) == ROUNDS * len(NAMES) * EACH
    for lane, numbers in lanes.items():
        assert numbers == sorted(set(numbers)), f"{lane}: {numbers}"
        assert numbers == list(range(len(numbers))), f"{lane}: {numbers}"


async def effects(running: Running, name: str) -> list[dict[str, Any]]:
    """An agent's effects in the order they were committed, read with its own database role."""
    store = running.store(name)
    try:
        found = await store.get_memories(kind="effect", limit=100_000)
    finally:
        await store.close()
    return [memory.content.data for memory in found]
