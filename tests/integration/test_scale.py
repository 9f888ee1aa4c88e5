"""Scaling, rolling and sleeping with real processes, while others tell (G11, G14, X7); `swarm up --watch`."""

from __future__ import annotations

import asyncio
import json
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from swarm.client import Swarm
from swarm.testing import eventually
from tests.project_folder import ProjectFolder
from tests.running import Running, running_swarm

pytestmark = pytest.mark.timeout(240)

WRITER = """
import asyncio, os
from swarm import Plugin

plugin = Plugin("writer")


@plugin.action(similes=["NOTE"], examples=["Note this: one"])
async def note(message):
    "Notes what comes after the colon, in a file for each room."
    room, number = message.text.rpartition(":")[2].split()
    with open(room + ".book", "a") as book:
        book.write(number + "\\n")
    await asyncio.sleep(0.03)
    return "noted " + number
"""
READER = {"name": "Reader", "bio": "Reads and notes."}
TOML = """
[swarm]
name = "scaled"

[agents.reader]
character = "agents/reader"

[agents.owl]
character = "agents/owl"
sleep_after = 0.6
"""
FILES = {
    "agents/reader/character.json": json.dumps(READER),
    "agents/reader/plugin.py": WRITER,
    "agents/owl/character.json": json.dumps(READER | {"name": "Owl"}),
    "agents/owl/plugin.py": WRITER,
}
AHEAD = 4
"""How many tells of a room may be unhandled: enough that an instance that goes has some of them."""


class Tellers:
    """Each tells into a room of its own, number after number, until told to stop."""

    def __init__(self, running: Running, swarm: Swarm, rooms: int = 4) -> None:
        self._folder, self._swarm, self._stop = running.folder, swarm, asyncio.Event()
        self.told = dict.fromkeys((f"r{number}" for number in range(rooms)), 0)

    def noted(self, room: str) -> list[int]:
        book = self._folder / f"{room}.book"
        return [int(line) for line in book.read_text().splitlines()] if book.exists() else []

    async def tell(self, room: str) -> None:
        while not self._stop.is_set():
            number = self.told[room]
            await self._swarm.tell("reader", f"Note this: {room} {number}", room=room)
            self.told[room] += 1
            await eventually(lambda: len(self.noted(room)) > self.told[room] - AHEAD, seconds=60)

    async def end(self) -> None:
        self._stop.set()
        await eventually(
            lambda: all(len(self.noted(room)) >= told for room, told in self.told.items()), seconds=60
        )


async def fewest_ready(swarm: Swarm, agent: str, change: Any) -> tuple[Any, int]:
    """What `change` answers, and how few instances were ready in the meantime."""
    task, fewest = asyncio.ensure_future(change), 1000
    while not task.done():
        rows = await swarm.ps()
        fewest = min(fewest, sum(row["name"] == agent and row["status"] == "ready" for row in rows))
    return task.result(), fewest


async def test_fault_20_scaling_and_rolling_under_load_lose_and_double_nothing_and_keep_the_order(
    tmp_path: Path,
) -> None:
    async with running_swarm(tmp_path / "p", TOML, FILES) as running, running.client() as swarm:
        tellers = Tellers(running, swarm)
        async with asyncio.TaskGroup() as group:
            for room in tellers.told:
                group.create_task(tellers.tell(room))
            up = await running.json("scale", "reader", "3")
            assert (up["before"], up["replicas"], up["done"], len(up["instances"])) == (1, 3, True, 3)
            restarted, fewest = await fewest_ready(swarm, "reader", running.json("restart", "reader"))
            assert restarted["ready"] and not set(restarted["instances"]) & set(up["instances"])
            assert fewest >= 2, "one at a time"

            character = running.folder / "agents" / "reader" / "character.json"
            before = next(row["version"] for row in await swarm.ps() if row["name"] == "reader")
            character.write_text(json.dumps(READER | {"bio": "Reads, notes and learns."}))
            again, fewest = await fewest_ready(swarm, "reader", running.json("up", "-d"))
            assert again["missing"] == [] and again["scaled"] == {"reader": 3}
            assert fewest >= 2
            versions = {row["version"] for row in await swarm.ps() if row["name"] == "reader"}
            assert len(versions) == 1 and versions != {before}

            down = await running.json("scale", "reader", "1")
            assert down["done"] and len(down["instances"]) == 1
            await tellers.end()
        for room, told in tellers.told.items():
            assert tellers.noted(room) == list(range(told)), room
            assert told > AHEAD, "it was under load"
        handled = sum(tellers.told.values())

        async def all_handled() -> bool:
            return bool((await swarm.stats())["ledger"]["deliveries.handled"] == handled)

        await eventually(all_handled, what="what was noted is committed, once each")
        ledger = (await swarm.stats())["ledger"]
        assert ledger.get("deliveries.dead", 0) == ledger.get("deliveries.expired", 0) == 0


async def test_x7_a_sleeper_is_started_by_a_tell_and_by_an_ask(tmp_path: Path) -> None:
    async with running_swarm(tmp_path / "p", TOML, FILES) as running, running.client() as swarm:

        async def status() -> str:
            return str(next(row["status"] for row in await swarm.ps() if row["name"] == "owl"))

        async def asleep() -> bool:
            return await status() == "asleep"

        await eventually(asleep, seconds=30, what="it falls asleep")
        found = await running.json("doctor")
        assert not [one for one in found["findings"] if one["verdict"] == "fault"], found
        told = await swarm.tell("owl", "Note this: night 1")
        assert told["status"] == "accepted"
        await eventually(lambda: (running.folder / "night.book").exists(), seconds=20)
        await eventually(asleep, seconds=30, what="it falls asleep again")
        again = await running.json("up", "-d")
        assert again["missing"] == [] and again["asleep"] == ["owl"], "that is no reason to wake it"
        answer = await swarm.ask("owl", "Note this: night 2", timeout=20)
        assert answer["text"] == "noted 2"


@pytest.fixture
def here(tmp_path: Path) -> Iterator[ProjectFolder]:
    folder = ProjectFolder(tmp_path / "watched")
    folder.folder.mkdir()
    folder.swarm("init")
    yield folder
    folder.end()


def test_up_watch_restarts_who_changed_and_keeps_who_does_not_load(here: ProjectFolder) -> None:
    watching = here.start("up", "--watch", "--json")
    assert watching.stdout is not None

    def says() -> dict[str, Any]:
        assert watching.stdout is not None
        said: dict[str, Any] = json.loads(watching.stdout.readline())
        return said

    def answer() -> str:
        return here.swarm("ask", "counter", "Count the words: one two three").strip()

    try:
        assert says()["status"] == "ready"
        plugin = here.folder / "agents" / "counter" / "plugin.py"
        code = plugin.read_text()
        plugin.write_text(code.replace("} words", "} words, counted anew"))
        assert says() == {"changed": ["counter"], "changes": [], "missing": [], "kept": []}
        assert answer() == "3 words, counted anew"

        plugin.write_text("this is no Python\n")
        [kept] = says()["kept"]
        assert "counter stays as it runs" in kept and "plugin.py" in kept
        assert answer() == "3 words, counted anew"

        (here.folder / "swarm.toml").write_text("[swarm]\nnam = 1\n")
        assert any("did you mean name" in sentence for sentence in says()["kept"])

        plugin.write_text(code)
        second = here.folder / "agents" / "second"
        second.mkdir()
        (second / "character.json").write_text(json.dumps({"name": "Second", "bio": "Comes later."}))
        toml = '[swarm]\nname = "watched"\n[agents.counter]\ncharacter = "agents/counter"\nreplicas = 2\n'
        toml += '[agents.second]\ncharacter = "agents/second"\n'
        (here.folder / "swarm.toml").write_text(toml)
        said = says()
        assert said["kept"] == said["missing"] == []
        assert "second is new" in said["changes"] and "counter: replicas 1 → 2" in said["changes"]
        assert answer() == "3 words"
        watching.send_signal(signal.SIGINT)
        assert watching.wait(60) == 0
    finally:
        watching.kill()
        watching.communicate()
