"""`swarm run --edge` as a process: it answers and remembers offline, and its swarm gets what it told (H7 to H10)."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from swarm.ids import string_to_uuid
from swarm.stores.sqlite import SqliteDatabase
from swarm.stores.sqlite.edge import EdgeStore
from swarm.testing import eventually
from tests.alone import Run, running
from tests.contract.store_fixtures import PostgresWorld, postgres_server, postgres_url, postgres_world
from tests.proxy import Proxy
from tests.running import running_swarm

__all__ = ["postgres_server", "postgres_url", "postgres_world"]

READER = string_to_uuid("reader")
PLUGIN = '''
from swarm import Plugin

plugin = Plugin("ranger")


@plugin.action("REPORT")
async def report(message, runtime):
    """Reports to the boss."""
    await runtime.peers.tell("boss", message.text)
    return "reported"
'''


@pytest.fixture
async def proxy(postgres_world: PostgresWorld) -> AsyncIterator[Proxy]:
    async with Proxy(postgres_world.url) as line:
        yield line


def ranger(folder: Path) -> Path:
    place = folder / "ranger"
    place.mkdir(parents=True)
    (place / "character.json").write_text(json.dumps({"name": "Reader", "id": READER, "bio": "Walks."}))
    (place / "plugin.py").write_text(PLUGIN)
    return place


async def test_h10_what_an_agent_at_the_edge_tells_offline_reaches_the_swarm_when_it_is_online_again(
    postgres_world: PostgresWorld, proxy: Proxy, tmp_path: Path
) -> None:
    world = postgres_world
    proxy.refuse = True
    options = {"SYNC_URL": proxy.url(world.agent_url("reader")), "SYNC_SECONDS": "1"}

    def offline(run: Run) -> None:
        run.ready()
        for number in range(3):
            answer = run.say(f"report: {number}", id=f"m-{number}")
            assert answer.json()["text"] == "reported"
        assert run.say("report: 1", id="m-1").json()["text"] == "reported"  # asked twice, told once
        assert run.client.get("/health").status_code == 200, "offline is no reason to be unwell"
        highest = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{run.process.pid}/status").read_text())
        assert highest is not None and int(highest[1]) < 64 * 1024, f"{int(highest[1]) // 1024} MB"
        run.signal()
        assert run.end() == 0

    with running(tmp_path, ranger(tmp_path), "--edge", **options) as run:
        await asyncio.to_thread(offline, run)
        assert "password" not in run.log
    assert await world.ledger.waiting() == {}
    store = EdgeStore(SqliteDatabase(tmp_path / "agent.db"), "reader", READER)
    assert await store.pending() == 9  # three messages, and what was heard and said
    await store.close()

    proxy.refuse = False
    with running(tmp_path, tmp_path / "ranger", "--edge", **options) as run:
        await asyncio.to_thread(run.ready)
        await eventually(lambda: _waits_for_boss(world), seconds=15)
        run.signal()
        assert await asyncio.to_thread(run.end) == 0
    assert await world.claim_texts("boss") == [f"report: {n}" for n in range(3)]
    assert await world.store("reader").count_memories() == 6


async def _waits_for_boss(world: PostgresWorld) -> bool:
    return (await world.ledger.waiting()).get("boss") == 3


BOSS = '''
from pathlib import Path
from swarm import Plugin

plugin = Plugin("boss")


@plugin.action("HEAR")
async def hear(message):
    """Hears everything."""
    with Path("heard").open("a") as file:
        file.write(f"{message.sender}: {message.text}\\n")
    return "heard"
'''
TOML = """
[swarm]
name = "forest"

[agents.boss]
character = "agents/boss"

[agents.ranger]
character = "agents/ranger"
"""


async def test_h10_a_running_swarm_hears_an_agent_at_the_edge_that_logs_in_as_itself(tmp_path: Path) -> None:
    """The whole way: the login from the command line, the outbox, the ledger, the coordinator, a live recipient."""
    files = {
        "agents/boss/character.json": json.dumps({"name": "Boss", "bio": "Listens."}),
        "agents/boss/plugin.py": BOSS,
        "agents/ranger/character.json": json.dumps({"name": "Ranger", "bio": "Walks."}),
        "agents/ranger/plugin.py": PLUGIN,
    }
    edge = tmp_path / "edge"
    edge.mkdir()
    async with running_swarm(tmp_path / "swarm", TOML, files) as swarm:
        await swarm.cli("stop", "ranger")  # known to the swarm, and run elsewhere
        login = (await swarm.json("config", "login", "ranger"))["url"]
        with running(
            edge, swarm.folder / "agents" / "ranger", "--edge", SYNC_URL=login, SYNC_SECONDS="1"
        ) as run:
            await asyncio.to_thread(run.ready)
            answer = await asyncio.to_thread(run.say, "report: smoke in the north")
            assert answer.json()["text"] == "reported"
            heard = swarm.folder / "heard"
            await eventually(heard.exists, seconds=20, what="the boss has heard")
            assert heard.read_text() == "ranger: report: smoke in the north\n"
            run.signal()
            assert await asyncio.to_thread(run.end) == 0
        assert login.split("@")[0] not in run.log


def test_h7_a_wrong_setting_of_the_edge_is_told_in_a_sentence(tmp_path: Path) -> None:
    with running(tmp_path, ranger(tmp_path), "--edge", MAX_MEMORY_SIZE="lots") as run:
        assert run.end() == 1
        assert (
            "maxMemorySize (or MAX_MEMORY_SIZE) takes a whole number" in run.log
            and "Traceback" not in run.log
        )
