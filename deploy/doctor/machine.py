"""This machine: room on the disk, a folder that can be written, and the processes that should be there."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final, NamedTuple

from deploy.doctor.finding import Finding, fault, ok, warning
from deploy.processes import ProcessId
from swarm.project import Process, Project, RunState

FULL_BYTES: Final = 200_000_000
"""With less than this left Postgres may stop at any moment."""
SCARCE_BYTES: Final = 1_000_000_000


class Space(NamedTuple):
    total: int
    free: int


def space_of(folder: Path) -> Space:
    usage = shutil.disk_usage(folder)
    return Space(usage.total, usage.free)


def check_disk(project: Project, space: Callable[[Path], Space] = space_of) -> Finding:
    left = space(project.folder).free
    text = f"{left / 1e9:.1f} GB are free where {project.folder} is"
    remedy = "Make room: old logs are in .swarm/logs, handled messages go by [retention] in swarm.toml."
    if left < FULL_BYTES:
        return fault("disk", f"The disk is full: only {text}.", remedy)
    if left < SCARCE_BYTES:
        return warning("disk", f"Only {text}.", remedy)
    return ok("disk", f"{text}.")


def check_folder(project: Project) -> Finding:
    home = project.home
    if not home.exists():
        return ok("folder", f"{home} is not made yet.")
    if not os.access(home, os.R_OK | os.W_OK | os.X_OK):
        return fault("folder", f"{home} cannot be read and written by this user.", "Run as its owner.")
    mode = home.stat().st_mode & 0o777
    if mode & 0o077:
        return fault("folder", f"{home} is open to others (mode {mode:o}).", f"chmod 700 {home}")
    return ok("folder", f"{home} is this user's alone.")


def check_processes(state: RunState | None) -> Iterator[Finding]:
    """What the supervisor wrote, against what lives. A swarm that others start (compose) has no supervisor."""
    if state is None:
        yield fault("processes", "No swarm runs here.", "Start it with `swarm up`.")
        return
    named = {"supervisor": state.supervisor, **state.children} if state.children else {}
    dead = [name for name, process in named.items() if not _lives(process)]
    for name in dead:
        yield fault(
            "processes",
            f"{name} is gone.",
            "Start the swarm again with `swarm up`."
            if "supervisor" in dead
            else f"The supervisor starts it again; `swarm logs {name}` says why it ended.",
        )
    if named and not dead:
        yield ok("processes", f"{', '.join(named)} live.")


def _lives(process: Process) -> bool:
    return ProcessId(process.pid, process.started).alive()
