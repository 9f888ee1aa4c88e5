"""Children made at run time, with real processes: born, asked, restarted with the swarm, orphaned by kill -9."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from swarm.client import Swarm
from swarm.testing import eventually_sync
from tests.project_folder import ProjectFolder

pytestmark = pytest.mark.timeout(240)

BOSS = """
import os, signal
from pathlib import Path
from swarm import Plugin
from swarm.errors import NoAuthority

plugin = Plugin("boss")


@plugin.hook
async def start(runtime):
    if Path("boss-dies").exists():
        os.kill(os.getpid(), signal.SIGKILL)


@plugin.action(similes=["HIRE"], examples=["Hire somebody"])
async def hire(message, runtime):
    "Hires a scribe."
    scribe = {"name": "Scribe", "bio": "Writes.", "settings": {"ink": "blue"}}
    child = await runtime.peers.spawn(scribe, secrets=["KEY"])
    return f"{child.agent} {child.ready} {child.created} {child.reason}"


@plugin.action(similes=["DISMISS"], examples=["Dismiss somebody"])
async def dismiss(message, runtime):
    "Dismisses the scribe."
    try:
        child = await runtime.peers.remove_child("scribe")
    except NoAuthority as error:
        return str(error)
    return f"{child.agent} {child.reason}"
"""
TOOLS = """
from swarm import Plugin

plugin = Plugin("tools", inheritable=True)


@plugin.action(similes=["SHOW"], examples=["Show settings"])
async def show(message, runtime):
    "Shows settings."
    names = ("ink", "paper", "of_the_file", "KEY", "OTHER_KEY", "FILE_TOKEN")
    return ", ".join(f"{name}={runtime.get_setting(name)}" for name in names)
"""
SWARM = """
[swarm]
name = "families"

[agents.boss]
character = "agents/boss"
permissions = { create_children = true, control_children = true }
orphans = "stop"
settings = { of_the_file = "yes", FILE_TOKEN = "planted-token" }

[agents.clerk]
character = "agents/clerk"
parent = "boss"
"""


@pytest.fixture
def here(tmp_path: Path) -> Iterator[ProjectFolder]:
    folder = ProjectFolder(tmp_path / "families")
    files: dict[str, Any] = {
        "swarm.toml": SWARM,
        "agents/boss/character.json": {
            "name": "Boss",
            "bio": "Has people.",
            "plugins": ["tools"],
            "settings": {"ink": "black", "paper": "white"},
            "secrets": {"KEY": "planted-key", "OTHER_KEY": "planted-other"},
        },
        "agents/boss/plugin.py": BOSS,
        "agents/boss/plugins/tools/plugin.py": TOOLS,
        "agents/clerk/character.json": {"name": "Clerk", "bio": "Keeps files."},
        "agents/helper/character.json": {
            "name": "Helper",
            "bio": "Helps.",
            "secrets": {"KEY": "helpers-own"},
        },
    }
    for name, content in files.items():
        path = folder.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content if isinstance(content, str) else json.dumps(content))
    yield folder
    folder.end()


def rows(here: ProjectFolder) -> dict[str, dict[str, Any]]:
    return {row["name"]: row for row in Swarm.once(here.project, lambda swarm: swarm.ps())}


def all_ready(here: ProjectFolder, *names: str) -> bool:
    now = rows(here)
    return all(now[name]["status"] == "ready" for name in names)


def test_f7_to_f16_a_family_is_made_restarted_and_orphaned(here: ProjectFolder) -> None:
    assert here.json("up", "-d")["status"] == "ready"

    # Born by its parent, in a turn; with what it inherits (F8), and nothing that was not named.
    assert here.json("ask", "boss", "Hire somebody")["text"] == "scribe True True "
    assert here.json("ask", "boss", "Hire somebody")["text"] == "scribe True False "
    assert here.json("ask", "scribe", "Show settings")["text"] == (
        "ink=blue, paper=white, of_the_file=yes, KEY=planted-key, OTHER_KEY=None, FILE_TOKEN=None"
    )

    # Born by an operator, who has no more rights than the parent.
    refused = here.run("spawn", "--parent", "clerk", "agents/helper", "--json")
    assert refused.returncode == 5 and "clerk may not create children" in refused.stderr
    assert "helper" not in rows(here)
    born = here.json("spawn", "--parent", "boss", "agents/helper", "--permission", "control_children")
    assert (born["agent"], born["created"], born["ready"]) == ("helper", True, True)
    again = here.json("spawn", "--parent", "boss", "agents/helper")
    assert (again["agent_id"], again["created"]) == (born["agent_id"], False)
    assert "KEY=helpers-own" in here.json("ask", "helper", "Show settings")["text"]
    [tree] = here.json("tree")
    family = {child["name"]: (child["spawned"], child["permissions"]) for child in tree["children"]}
    assert family["clerk"][0] is False and family["scribe"][0] is True
    rights = family["helper"][1]
    assert (rights["create_children"], rights["control_children"], rights["access_parent_memory"]) == (
        False,
        True,
        True,
    )
    assert here.run("permit", "clerk", "create_children").returncode == 5  # that stands in the file
    assert here.run("permit", "helper", "creat_children").returncode == 2
    permitted = here.json("permit", "helper", "access-parent-memory=false")
    assert permitted["permissions"]["access_parent_memory"] is False
    other = {"name": "Helper", "bio": "Somebody else."}
    (here.folder / "other.json").write_text(json.dumps(other))
    assert here.run("spawn", "--parent", "boss", "other.json").returncode == 5  # A11

    # Another `swarm up` forgets nobody, and neither does a restart of everything.
    assert here.json("up", "-d")["changes"] == []
    assert all_ready(here, "boss", "clerk", "scribe", "helper")
    here.swarm("down")
    assert here.json("up", "-d")["status"] == "ready"
    eventually_sync(lambda: all_ready(here, "boss", "clerk", "scribe", "helper"))

    # A parent that restarts is not dead; one that is killed at every start is.
    before = rows(here)
    (here.folder / "boss-dies").touch()
    os.kill(before["boss"]["pid"], signal.SIGKILL)
    eventually_sync(lambda: rows(here)["boss"]["restarts"] >= 1)
    assert {name: row["pid"] for name, row in rows(here).items() if name != "boss"} == {
        name: row["pid"] for name, row in before.items() if name != "boss"
    }
    eventually_sync(lambda: rows(here)["boss"]["status"] == "quarantined", seconds=60.0)
    orphans = ("clerk", "scribe", "helper")
    eventually_sync(lambda: all(rows(here)[name]["status"] == "absent" for name in orphans))
    (here.folder / "boss-dies").unlink()
    here.swarm("start", "boss")
    eventually_sync(lambda: all_ready(here, "boss", *orphans))

    # The file takes a right from the parent, and with it from its subtree.
    file = here.folder / "swarm.toml"
    file.write_text(SWARM.replace(", control_children = true", ""))
    assert here.json("up", "-d")["changes"]
    assert "No authority over this agent" in here.run("ask", "boss", "Dismiss somebody").stdout
    [tree] = here.json("tree")
    assert not any(child["permissions"]["control_children"] for child in tree["children"])
    file.write_text(SWARM)
    here.swarm("up", "-d")

    # Taken out by its parent: nobody looks for it any more.
    assert here.json("ask", "boss", "Dismiss somebody")["text"] == "scribe stopped"
    assert "scribe" not in rows(here)
    here.swarm("remove", "helper")
    [tree] = here.json("tree")
    assert [child["name"] for child in tree["children"]] == ["clerk"]
    for log in here.project.logs.glob("*.log"):
        assert "planted" not in log.read_text(), log.name
