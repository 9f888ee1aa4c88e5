"""A project in a folder, brought up and taken down with the command line, as a user does it."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from swarm.client import Swarm
from swarm.project import Project

SWARM = Path(sys.executable).parent / "swarm"


class RunningProject:
    """`agents` get a character each and no plugins."""

    def __init__(self, folder: Path, agents: Sequence[str]) -> None:
        self.folder = folder
        lines = ["[swarm]", 'name = "bench"']
        for name in agents:
            home = folder / "agents" / name
            home.mkdir(parents=True)
            (home / "character.json").write_text(f'{{"name": "{name}", "bio": "Waits."}}')
            lines += [f"[agents.{name}]", f'character = "agents/{name}"']
        (folder / "swarm.toml").write_text("\n".join(lines) + "\n")
        self.project = Project.find(folder)

    async def up(self) -> float:
        """Seconds until all agents were ready. Raises RuntimeError with what the command said."""
        return await self._command("up", "-d", timeout=180)

    async def down(self) -> float:
        return await self._command("down", timeout=120)

    async def _command(self, *words: str, timeout: float) -> float:
        began = time.monotonic()
        done = await asyncio.to_thread(
            subprocess.run,
            [str(SWARM), *words],
            cwd=self.folder,
            env=os.environ | {"NO_COLOR": "1"},
            capture_output=True,
            text=True,
            timeout=timeout,
        )
        if done.returncode != 0:
            raise RuntimeError(f"swarm {' '.join(words)} ended with {done.returncode}: {done.stderr}")
        return time.monotonic() - began

    async def rows(self) -> list[dict[str, Any]]:
        async with Swarm.connect(self.project, wait=10.0) as swarm:
            return await swarm.ps()

    @property
    def store_url(self) -> str:
        return (self.project.home / "secrets" / "store_url").read_text()

    def children(self) -> dict[str, int]:
        """The pids of the servers, the coordinator and the node."""
        state = self.project.require_state()
        return {name: process.pid for name, process in state.children.items()}
