"""A second machine behind a line that is cut: from the store, from the bus, and back. Its turn counts once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from swarm.client import Swarm
from swarm.testing import eventually
from tests.joined import joined
from tests.proxy import Proxy
from tests.running import Running, running_swarm

pytestmark = pytest.mark.timeout(180)

PLUGIN = '''
import asyncio, os
from pathlib import Path
from swarm import Plugin

plugin = Plugin("worker")


@plugin.action(timeout=100)
async def work(message, runtime):
    """Says which process has it, waits until it may go on, and leaves an effect."""
    folder, n = Path(message.content.data["folder"]), message.content.data["n"]
    descriptor = os.open(folder / f"began-{n}", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    os.write(descriptor, f"{os.getpid()}\\n".encode())
    os.close(descriptor)
    while not (folder / f"go-{n}").exists():
        await asyncio.sleep(0.02)
    await runtime.remember(kind="effect", data={"n": n, "pid": os.getpid()})
    await runtime.peers.tell("anchor", f"done {n}")
'''
TOML = """
[swarm]
name = "cut"
[agents.anchor]
character = "agents/anchor"
[agents.worker]
character = "agents/worker"
"""
FILES = {
    "agents/anchor/character.json": '{"name": "anchor", "bio": "Stays."}',
    "agents/worker/character.json": '{"name": "worker", "bio": "Works."}',
    "agents/worker/plugin.py": PLUGIN,
}


async def worker(swarm: Swarm) -> dict[str, Any]:
    """The row of its one ready instance; empty while there is none, or more than one process."""
    rows = [row for row in await swarm.ps() if row["name"] == "worker"]
    return rows[0] if len(rows) == 1 and rows[0]["status"] == "ready" else {}


async def effects(home: Running) -> list[dict[str, Any]]:
    store = home.store("worker")
    try:
        return [memory.content.data for memory in await store.get_memories(kind="effect", limit=100)]
    finally:
        await store.close()


async def begin(swarm: Swarm, folder: Path, n: int, room: str) -> tuple[str, int]:
    """The id of a message that the worker has in hand now, and its pid."""
    receipt = await swarm.tell("worker", "work: it", data={"folder": str(folder), "n": n}, room=room)
    began = folder / f"began-{n}"
    await eventually(lambda: began.exists() and began.read_text().endswith("\n"), seconds=20)
    return receipt["id"], int(began.read_text().split()[0])


async def handled(swarm: Swarm, id: str) -> bool:
    return (await swarm.message(id))["deliveries"][0]["state"] == "handled"


async def test_a_node_that_is_cut_off_from_the_store_the_bus_or_both_commits_each_turn_once(
    tmp_path: Path,
) -> None:
    async with running_swarm(tmp_path / "home", TOML, FILES) as home, home.client() as swarm:
        state = home.project.require_state()
        async with Proxy(state.bus_url) as bus, Proxy(state.store_url) as store:
            invite = ("--bus-url", bus.url(state.bus_url), "--store-url", store.url(state.store_url))
            async with joined(home, tmp_path / "second", invite=invite) as machine:

                async def moved() -> bool:
                    return (await worker(swarm)).get("node") == "node-2"

                await eventually(lambda: _nodes(swarm, 2), seconds=30, what="node-2 to join")
                await swarm.stop("worker")
                await swarm.start("worker")
                await eventually(moved, seconds=20)

                # From the store alone: nothing moves, the finished turn waits with its commit.
                first, pid = await begin(swarm, tmp_path, 1, "one")
                store.refuse = True
                store.hang_up()
                (tmp_path / "go-1").touch()
                await eventually(lambda: store.refused > 1, seconds=20, what="a commit that finds no store")
                assert not await handled(swarm, first) and (await worker(swarm))["node"] == "node-2"
                store.refuse = False
                await eventually(lambda: handled(swarm, first), seconds=20)
                assert await effects(home) == [{"n": 1, "pid": pid}]

                # From both, with a turn in hand: it moves, is done by another process, and counts once.
                second, old = await begin(swarm, tmp_path, 2, "two")
                for line in (bus, store):
                    line.refuse = True
                    line.hang_up()
                await eventually(
                    lambda: _lines(tmp_path / "began-2") == 2, seconds=30, what="the other's turn"
                )
                (tmp_path / "go-2").touch()
                await eventually(lambda: handled(swarm, second), seconds=20)
                here = await worker(swarm)
                assert here["node"] == "node" and here["pid"] != old

                # It comes back: its own late commit changes nothing, and what it ran is ended there.
                bus.refuse = store.refuse = False
                await eventually(lambda: _nodes(swarm, 2), seconds=30, what="node-2 to come back")
                await eventually(
                    lambda: not Path(f"/proc/{old}").exists(), seconds=40, what="the old one's end"
                )
                now = await eventually(lambda: worker(swarm), seconds=20)
                assert (now["node"], now["pid"]) == ("node", here["pid"]), machine.log

                # From the bus alone: the old one commits first, the other's is the duplicate.
                await swarm.stop("worker")
                await swarm.start("worker")
                await eventually(moved, seconds=20)
                third, old = await begin(swarm, tmp_path, 3, "three")
                bus.refuse = True
                bus.hang_up()
                await eventually(
                    lambda: _lines(tmp_path / "began-3") == 2, seconds=30, what="the other's turn"
                )
                (tmp_path / "go-3").touch()
                await eventually(lambda: handled(swarm, third), seconds=20)
                await eventually(lambda: "cut off from the bus" in machine.log, seconds=20)
                await eventually(
                    lambda: not Path(f"/proc/{old}").exists(), seconds=40, what="the old one's end"
                )
                bus.refuse = False

        assert sorted(effect["n"] for effect in await effects(home)) == [1, 2, 3]
        ledger = (await swarm.stats())["ledger"]
        assert ledger["deliveries.handled"] == 6, ledger  # three works, and each told the anchor once


async def _nodes(swarm: Swarm, count: int) -> bool:
    return bool((await swarm.ping())["nodes"] == count)


def _lines(path: Path) -> int:
    return len(path.read_text().splitlines())
