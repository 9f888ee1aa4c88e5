"""A real swarm for a test: a project in a folder of its own, `swarm up -d`, and nothing left behind after it."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from deploy.processes import find_strays
from swarm.client import Swarm
from swarm.ids import string_to_uuid
from swarm.project import Project
from swarm.stores.postgres import PostgresStore, agent_url


class Running:
    """`swarm` is a client, `folder` the project."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.project = Project.find(folder)

    async def cli(
        self, *words: str, check: int | None = 0, timeout: float = 60.0
    ) -> subprocess.CompletedProcess[str]:
        """Run `swarm …` as a user would. `check` is the exit code that must come, None for any."""
        done = await asyncio.to_thread(
            subprocess.run,
            [Path(sys.executable).parent / "swarm", *words],
            cwd=self.folder,
            env={**os.environ, "NO_COLOR": "1"},
            capture_output=True,
            text=True,
            timeout=timeout,
        )
        assert check is None or done.returncode == check, (
            f"{words}: {done.returncode}\n{done.stdout}{done.stderr}"
        )
        return done

    async def json(self, *words: str, **fields: Any) -> Any:
        lines = (await self.cli(*words, "--json", **fields)).stdout.splitlines()
        if words[0] in ("ps", "tree") or words[:2] == ("task", "ls"):
            return [json.loads(line) for line in lines]
        return json.loads("".join(lines))

    def client(self) -> Any:
        return Swarm.connect(self.project, wait=10.0)

    def store(self, agent: str) -> PostgresStore:
        """The store as this agent sees it, under its own database role."""
        url = (self.project.home / "secrets" / "store_url").read_text()
        password = self.project.agent_password(self.swarm, agent)
        id = string_to_uuid(agent)
        return PostgresStore(agent_url(url, self.swarm, id, password), self.swarm, agent, id)

    @property
    def swarm(self) -> str:
        return self.project.require_state().swarm

    def left(self) -> list[Any]:
        """Processes of this project that live."""
        return list(find_strays(self.project.mark))


def write_project(folder: Path, toml: str, files: Mapping[str, str]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "swarm.toml").write_text(toml)
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


@asynccontextmanager
async def running_swarm(
    folder: Path, toml: str, files: Mapping[str, str], up: int = 0
) -> AsyncIterator[Running]:
    """`up` is the exit code with which it must come up: 1 when not all can be ready."""
    write_project(folder, toml, files)
    running = Running(folder)
    await running.cli("up", "-d", check=up, timeout=90)
    try:
        yield running
    finally:
        await running.cli("down", check=None, timeout=60)
        assert running.left() == []
