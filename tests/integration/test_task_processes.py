"""Tasks through real processes and servers: a megabyte exactly, cancelling what runs, input across kills.

Row F15; invariant I7: one terminal state, whatever dies.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from bus.errors import NobodyThere, Refused, TooLate
from swarm.client import Swarm
from swarm.testing import eventually
from tests.running import Running, running_swarm

TOML = """
[swarm]
name = "tasks"

[agents.boss]
character = "agents/boss"
permissions = { create_children = true, control_children = true }

[agents.worker]
character = "agents/worker"
parent = "boss"
permissions = { create_children = true, control_children = true }

[agents.helper]
character = "agents/helper"
parent = "worker"
"""
WORKER = '''
import asyncio
from pathlib import Path

from swarm import Action, Plugin

LOG = Path("cleaned.log")


async def make(message):
    """Makes a result of so many bytes."""
    return "x" * message.given["bytes"]


async def hang(runtime, message):
    """Hangs until it is cancelled, with a task below it, and cleans up."""
    if runtime.name == "worker":
        await runtime.peers.delegate("helper", "hang: below", key="below")
    await runtime.peers.progress(10, "hanging")
    try:
        await asyncio.Event().wait()
    finally:
        await asyncio.sleep(0.05)
        with LOG.open("a") as log:
            log.write(runtime.name + "\\n")


async def ask(runtime):
    """Asks."""
    first = await runtime.peers.ask_input("Which one?")
    second = await runtime.peers.ask_input("Are you sure?", schema={"type": "object"})
    return f"{first.text} {second.data['sure']}"


plugin = Plugin("worker", actions=[
    Action("MAKE", make), Action("HANG", hang, timeout=600.0), Action("ASK", ask)])
'''


@pytest.fixture(scope="module")
def files() -> dict[str, str]:
    names = ("boss", "worker", "helper")
    agents = {f"agents/{n}/character.json": f'{{"name": "{n}", "bio": "A test."}}' for n in names}
    return agents | {f"agents/{n}/plugin.py": WORKER for n in names[1:]}


@pytest.fixture
async def running(tmp_path: Path, files: dict[str, str]) -> AsyncIterator[Running]:
    async with running_swarm(tmp_path / "tasks", TOML, files) as one:
        yield one


async def instance_of(swarm: Swarm, agent: str) -> Any:
    async def ready() -> Any:
        rows = [row for row in await swarm.ps() if row["name"] == agent and row["status"] == "ready"]
        return rows[0] if rows else None

    return await eventually(ready, seconds=30, what=f"{agent} ready")


async def in_state(swarm: Swarm, id: str, *states: str) -> Any:
    async def there() -> Any:
        task = await swarm.task(id)
        return task if task["state"] in states else None

    return await eventually(there, seconds=30, what=f"task {id} {states}")


async def test_f15_tasks_through_real_processes(running: Running) -> None:
    """One swarm for the whole story: starting one takes seconds."""
    async with running.client() as swarm:
        await a_megabyte_exactly_arrives_and_a_byte_more_is_refused(swarm)
        await canceling_reaches_running_handlers_of_the_tree(running, swarm)
        await input_survives_a_kill_and_a_restart(running, swarm)
    await the_command_line(running)


async def a_megabyte_exactly_arrives_and_a_byte_more_is_refused(swarm: Swarm) -> None:
    whole = await swarm.delegate("worker", "make: it", parent="boss", input={"bytes": 1_000_000}, wait=30.0)
    assert whole["state"] == "completed" and len(whole["result"]["text"]) == 1_000_000
    shown = await swarm.task(whole["id"])
    assert len(shown["result"]["text"]) == 1_000_000
    large = await swarm.delegate("worker", "make: it", parent="boss", input={"bytes": 1_000_001}, wait=30.0)
    assert (large["state"], large["result"]) == ("failed", None)
    assert "1,000,001 bytes and at most 1,000,000 fit; put it in a file" in large["error"]
    assert {task["state"] for task in await swarm.tasks(agent="worker")} == {"completed", "failed"}


async def canceling_reaches_running_handlers_of_the_tree(running: Running, swarm: Swarm) -> None:
    log = running.folder / "cleaned.log"
    task = await swarm.delegate("worker", "hang: on", parent="boss")

    async def both_hang() -> bool:
        shown = await swarm.task(task["id"])
        return shown["progress"] == 10 and any(sub["progress"] == 10 for sub in shown["subtasks"])

    await eventually(both_hang, seconds=20, what="both hang")
    with pytest.raises(Refused, match=r"^No authority over this agent$"):
        await swarm.cancel(task["id"], sender="helper")
    canceled = await swarm.cancel(task["id"], reason="enough", sender="boss")
    assert canceled["error"] == "canceled by boss: enough"
    await eventually(lambda: log.exists() and log.read_text().split(), seconds=10)
    await eventually(lambda: sorted(log.read_text().split()) == ["helper", "worker"], seconds=10)
    shown = await swarm.task(task["id"])
    assert [sub["state"] for sub in shown["subtasks"]] == ["canceled"]
    # The child of a task is dead when it is cancelled: the task ends without it.
    again = await swarm.delegate("worker", "hang: on", parent="boss")
    await in_state(swarm, again["id"], "working")
    os.kill((await instance_of(swarm, "worker"))["pid"], signal.SIGKILL)
    assert (await swarm.cancel(again["id"]))["state"] == "canceled"


async def input_survives_a_kill_and_a_restart(running: Running, swarm: Swarm) -> None:
    await instance_of(swarm, "worker")
    task = await swarm.delegate("worker", "ask: me", parent="boss", deadline=120.0)
    waiting = await in_state(swarm, task["id"], "input-required")
    assert waiting["question"] == "Which one?"
    os.kill((await instance_of(swarm, "worker"))["pid"], signal.SIGKILL)
    assert (await swarm.answer(task["id"], "the red one", sender="boss"))["state"] == "working"
    await eventually(lambda: asked(swarm, task["id"], "Are you sure?"), seconds=40)
    await running.cli("restart", "worker")
    os.kill(running.project.require_state().children["coordinator"].pid, signal.SIGKILL)
    await eventually(lambda: answered(swarm, task["id"], {"sure": "yes"}), seconds=40)
    ended = await in_state(swarm, task["id"], "completed", "failed", "canceled", "rejected")
    # The answer may have gone to the process that had just been killed; that counts as a crash, once.
    assert (ended["state"], ended["result"]["text"]) == ("completed", "the red one yes")
    assert ended["failures"] <= 1


async def answered(swarm: Swarm, id: str, data: dict[str, str]) -> bool:
    """As a script would: the coordinator died with the request in hand, and the same answer twice is one."""
    try:
        await swarm.answer(id, data=data)
    except (TooLate, NobodyThere):
        return False
    return True


async def asked(swarm: Swarm, id: str, question: str) -> bool:
    return bool((await swarm.task(id))["question"] == question)


async def the_command_line(running: Running) -> None:
    task = await running.json("delegate", "worker", "ask: me", "--as", "boss")
    id = task["id"]
    async with asyncio.TaskGroup() as group:
        watching = group.create_task(running.cli("task", "watch", id, "--json"))
        await eventually(lambda: listed(running, id), seconds=30)
        assert (await running.json("task", "answer", id, "blue"))["state"] == "working"
        await eventually(lambda: listed(running, id, "Are you sure?"), seconds=30)
        await running.cli("task", "answer", id, check=2)
        await running.json("task", "answer", id, "--data", '{"sure": 1}')
    lines = watching.result().stdout.splitlines()
    assert '"completed"' in lines[-1] and len(lines) >= 3
    assert (await running.cli("task", "show", id)).stdout.count("answered") == 2
    hanging = await running.json("delegate", "worker", "hang: on", "--as", "boss")
    await running.cli("task", "watch", hanging["id"], "--timeout", "0.5", check=4)
    await running.json("task", "cancel", hanging["id"], "--reason", "enough")
    await running.cli("task", "watch", hanging["id"], check=1)
    again = await running.json("task", "retry", hanging["id"])
    assert again["retry_of"] == hanging["id"]
    await running.json("task", "cancel", again["id"])
    await running.cli("task", "answer", id, "late", check=5)
    tree = (await running.cli("task", "show", hanging["id"])).stdout
    assert "└── " in tree and "worker → helper" in tree


async def listed(running: Running, id: str, question: str = "Which one?") -> bool:
    rows = await running.json("task", "ls", "--state", "input-required", "--agent", "worker")
    return any(row["id"] == id and row["question"] == question for row in rows)
