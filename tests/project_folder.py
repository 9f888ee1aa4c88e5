"""A project of its own in a temporary folder, driven through the command line as a person would."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

from deploy.node import agents_mark
from deploy.processes import ProcessId, find_strays, processes_in
from swarm.project import Project

ROOT = Path(__file__).resolve().parent.parent
ENTRY = [sys.executable, "-m", "deploy.cli"]


class ProjectFolder:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.environment = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("SWARM_", "PYTEST_", "COV_"))
        } | {"PYTHONPATH": str(ROOT), "NO_COLOR": "1"}

    @property
    def project(self) -> Project:
        return Project.find(self.folder)

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        """A command that goes on; the caller ends it."""
        return subprocess.Popen(
            [*ENTRY, *arguments],
            cwd=self.folder,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, *arguments: str, timeout: float = 100.0) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*ENTRY, *arguments],
            cwd=self.folder,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )

    def swarm(self, *arguments: str, code: int = 0) -> str:
        """What a command printed, after its exit code was checked."""
        done = self.run(*arguments)
        assert done.returncode == code, f"swarm {arguments}: {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def json(self, *arguments: str, code: int = 0) -> Any:
        lines = self.swarm(*arguments, "--json", code=code).splitlines()
        if arguments[0] in ("ps", "tree") or arguments[:2] == ("task", "ls"):
            return [json.loads(line) for line in lines]
        return json.loads("".join(lines))

    def child(self, name: str) -> ProcessId:
        state = self.project.require_state()
        found = state.supervisor if name == "supervisor" else state.children[name]
        return ProcessId(found.pid, found.started)

    def living(self) -> list[ProcessId]:
        """Every process of this project but its supervisor, found by what the kernel knows."""
        project = self.project
        found = find_strays(project.mark) + find_strays(agents_mark(project))
        return found + processes_in(project.home / "postgres" / "data")

    def end(self) -> None:
        """Whatever happened, leave nothing behind."""
        if (self.folder / "swarm.toml").exists():
            self.run("down", "--drain", "5")
            for process in self.living():
                process.signal(signal.SIGKILL)
