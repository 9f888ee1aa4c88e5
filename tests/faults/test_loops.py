"""Two agents that answer each other for ever are stopped within a bound and named: F6, I16, on real processes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from swarm.testing import eventually
from tests.running import Running, running_swarm

PLUGIN = '''
import asyncio

from swarm import Plugin, Service

plugin = Plugin("polite")
OTHER = {"ada": "bob", "bob": "ada", "cyd": "dan", "dan": "cyd", "eve": "fay", "fay": "eve"}


@plugin.action()
async def thank(message, runtime):
    """Thanks whoever wrote, each time in a room where nobody has been."""
    await runtime.peers.tell(message.sender, "thank: you too", room=f"fresh {message.id}")


@plugin.action()
async def begin(message, runtime):
    """Begins to thank."""
    await runtime.peers.tell(OTHER[runtime.name], "thank: you", room="start")


@plugin.action()
async def inquire(message, runtime):
    """Asks the other before it answers."""
    answer = await runtime.peers.ask(OTHER[runtime.name], "inquire: and you?", room=f"fresh {message.id}")
    return answer.text


@plugin.action()
async def bounce(message, runtime):
    """Has it written back from outside of its turn, so that each message begins a conversation."""
    RUNS.put_nowait((runtime, OTHER[runtime.name]))


RUNS = asyncio.Queue()


@plugin.service
class Bouncer(Service):
    """Has no turn in hand, so what it sends is because of nothing."""

    service_type = "bouncer"

    async def run(self):
        while True:
            runtime, to = await RUNS.get()
            await runtime.peers.tell(to, "bounce: on", room="game")
'''
NAMES = ("ada", "bob", "cyd", "dan", "eve", "fay")
FILES = {
    **{f"agents/{name}/character.json": f'{{"name": "{name}", "bio": "Is polite."}}' for name in NAMES},
    **{f"agents/{name}/plugin.py": PLUGIN for name in NAMES},
}
TOML = "[swarm]\nname = 'loops'\n[limits]\npair_per_minute = 40\n" + "".join(
    f"[agents.{n}]\ncharacter = 'agents/{n}'\n" for n in NAMES
)


async def named(running: Running, *names: str) -> dict[str, str] | None:
    """The limits that `ps` shows for these agents, once all have one."""
    rows = {row["name"]: row["limit"] for row in await running.json("ps")}
    found = {name: rows[name] for name in names}
    return found if all(found.values()) else None


async def test_f6_agents_that_answer_each_other_are_stopped_and_named_by_ps(tmp_path: Path) -> None:
    async with running_swarm(tmp_path / "loops", TOML, FILES) as running, running.client() as swarm:
        await swarm.tell("ada", "thank: me", room="start")  # the operator takes no mail: bob must begin
        await swarm.tell("ada", "begin: it", room="start")
        await swarm.tell("eve", "bounce: first", room="start")
        await swarm.ask(
            "cyd", "inquire: how are you?", timeout=30
        )  # its end is an apology: somebody was refused

        loops = await eventually(lambda: named(running, "ada", "bob", "cyd", "dan", "eve", "fay"), seconds=30)
        assert loops["ada"] == loops["bob"] and loops["ada"].startswith("hops: "), loops
        assert "ada → bob → ada" in loops["ada"] or "bob → ada → bob" in loops["ada"]
        assert loops["cyd"] == loops["dan"] and "cyd" in loops["cyd"] and "dan" in loops["cyd"]
        assert loops["eve"].startswith("pair_rate: ") and "eve" in loops["eve"] and "fay" in loops["eve"]

        async def quiet() -> Any:
            stats = (await swarm.stats())["ledger"]
            waiting = [stats.get(f"deliveries.{state}", 0) for state in ("accepted", "dispatched")]
            return None if any(waiting) else stats

        stats = await eventually(quiet, seconds=30, what="an end of it")
        assert stats["refused.hops"] == 1
        assert stats["refused.pair_rate"] >= 1
        assert stats["deliveries.handled"] <= 1 + 33 + 2 * 60 + 10, stats
        shown = (await running.cli("ps")).stdout
        assert "ada, bob: refused: hops: " in shown, shown
