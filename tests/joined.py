"""A second machine, as far as one machine can play it: a node with its own checkout and its own `.swarm` folder, that
knows the first one's servers only by the addresses it was invited with."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from deploy.node import agents_mark
from deploy.processes import ProcessId, find_strays
from swarm.project import Project
from swarm.testing import eventually
from tests.running import Running

SWARM = str(Path(sys.executable).parent / "swarm")


class Machine:
    """`before` goes before the command: how it is started, such as into a namespace."""

    def __init__(self, folder: Path, before: Sequence[str] = ()) -> None:
        self.folder = folder
        self._before = before
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def project(self) -> Project:
        return Project(self.folder / "swarm.toml")

    @property
    def log(self) -> str:
        return (self.folder / "node.log").read_text()

    def start(self, *words: str) -> None:
        with (self.folder / "node.log").open("ab") as log:
            self.process = subprocess.Popen(
                [*self._before, SWARM, "node", *words],
                cwd=self.folder,
                env={**os.environ, "NO_COLOR": "1"},
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def kill(self) -> None:
        """As a power cut: the node and all that it runs, at once."""
        if self.process is not None:
            for stray in self.instances():
                stray.signal(signal.SIGKILL)
            self.process.kill()
            self.process.wait()

    def pid(self) -> int:
        """Of the node itself, as seen from here."""
        assert self.process is not None
        if "unshare" not in self._before:
            return self.process.pid
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        return int(children[0]) if children else 0

    async def stop(self, seconds: float = 40.0) -> int:
        """Its exit code after SIGTERM."""
        assert self.process is not None
        os.kill(self.pid(), signal.SIGTERM)
        return await asyncio.to_thread(self.process.wait, seconds)

    def instances(self) -> list[ProcessId]:
        return find_strays(agents_mark(self.project))


@asynccontextmanager
async def joined(
    running: Running,
    folder: Path,
    *,
    invite: Sequence[str] = (),
    before: Sequence[str] = (),
    checkout: bool = True,
) -> AsyncIterator[Machine]:
    """A machine that has joined, once the coordinator knows it. Whatever happens, nothing of it is left."""
    folder.mkdir()
    if checkout:
        for item in running.folder.iterdir():
            if item.name != ".swarm":
                (shutil.copytree if item.is_dir() else shutil.copy)(item, folder / item.name)
    machine = Machine(folder, before)
    link = folder / "link"
    await running.cli("node", "invite", "-o", str(link), *invite)
    machine.start("--join", str(link))
    try:
        yield machine
    finally:
        if machine.process is not None and machine.process.poll() is None:
            machine.process.terminate()
            try:
                await asyncio.to_thread(machine.process.wait, 20)
            except subprocess.TimeoutExpired:
                machine.kill()
        await eventually(lambda: not machine.instances(), seconds=20, what="its instances to end")
