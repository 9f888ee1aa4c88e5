"""A copy of a swarm becomes the same swarm elsewhere: its mail, its order, its memories; and overwrites nothing."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from swarm.testing import eventually_sync
from tests.project_folder import ProjectFolder


@pytest.fixture
def folders(tmp_path: Path) -> Iterator[tuple[ProjectFolder, ProjectFolder]]:
    """Two machines with the same project; the first runs."""
    here, there = ProjectFolder(tmp_path / "here"), ProjectFolder(tmp_path / "there")
    here.folder.mkdir()
    here.swarm("init")
    shutil.copytree(here.folder, there.folder)
    here.swarm("up", "-d")
    yield here, there
    here.end()
    there.end()


@pytest.mark.timeout(180)
def test_a_copy_becomes_the_same_swarm_elsewhere(folders: tuple[ProjectFolder, ProjectFolder]) -> None:
    here, there = folders
    here.swarm("ask", "counter", "Count the words: one two")
    here.swarm("stop", "counter")
    waiting = [here.json("tell", "counter", f"Count the words: {n}")["id"] for n in range(3)]
    copy = here.folder / "copy"
    assert here.json("backup", str(copy))["bytes"] > 1000
    assert copy.stat().st_mode & 0o077 == 0
    again = here.run("backup", str(copy))
    assert again.returncode == 2 and "already" in again.stderr

    assert there.json("restore", str(copy))["restored"] is True
    assert there.living() == []
    twice = there.run("restore", str(copy))
    assert twice.returncode == 1 and "overwrites nothing" in twice.stderr
    there.swarm("up", "-d")
    assert there.json("inbox", "counter")["waiting"] == 3  # stopped there, too: that was somebody's will
    there.swarm("start", "counter")
    for id in waiting:
        eventually_sync(
            lambda id=id: there.json("message", "show", id)["deliveries"][0]["state"] == "handled"
        )
    there.swarm("ask", "counter", "Count the words: a")
    there.swarm("down")
    running = here.run("restore", str(copy))
    assert running.returncode == 2 and "swarm down" in running.stderr
