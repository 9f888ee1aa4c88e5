"""The demonstration's own project in `.swarm/demo`: the agents of the checkout's swarm.toml, and a state of its own.

So a swarm that runs in the checkout is not disturbed, and every demonstration begins anew: work that an
interrupted one left behind would otherwise go on in the next.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
from pathlib import Path
from typing import Any, Final
from urllib.parse import unquote_to_bytes

from deploy.supervisor import AlreadyRuns, clear_strays, is_locked
from swarm.config import SwarmConfig, load_config
from swarm.errors import SwarmError
from swarm.project import FILE_NAME, Project

ROOT: Final = Path(__file__).resolve().parents[2]
DRAIN_SECONDS: Final = 5.0
MARK: Final = "# Written by `make demo`, anew each time."
NEEDED: Final = ("surveyor", "reader", "herald")


class DemoFailed(SwarmError):
    """The demonstration cannot be given, or did not come to its end."""


async def demo_project(state: Path | None = None) -> Project:
    """A fresh project in `state` (default: `.swarm/demo`), ready to be started.

    Raises DemoFailed, and AlreadyRuns when a demonstration runs there.
    """
    if not (ROOT / FILE_NAME).is_file():
        raise DemoFailed(f"There is no {ROOT / FILE_NAME}; run the demo in a checkout, with `make demo`.")
    config = load_config(ROOT / FILE_NAME)
    missing = [name for name in NEEDED if name not in config.agents]
    if missing:
        raise DemoFailed(f"swarm.toml has no agent {' and no agent '.join(missing)}; the demo needs them.")
    if state is None:
        Project(ROOT / FILE_NAME).prepare()
        state = Project(ROOT / FILE_NAME).home / "demo"
    project = Project(state.absolute() / FILE_NAME)
    if project.file.exists() and not project.file.read_text("utf-8", "replace").startswith(MARK):
        raise DemoFailed(f"{project.file} is somebody's project; name another folder for the demo's state.")
    if is_locked(project):
        raise AlreadyRuns("A demo runs in this checkout.")
    if project.home.exists():
        await clear_strays(project)
        await asyncio.to_thread(shutil.rmtree, project.home, ignore_errors=True)
    project.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    project.file.write_text(swarm_file(config, ROOT), "utf-8")
    project.prepare()
    return project


def swarm_file(config: SwarmConfig, root: Path) -> str:
    """The checkout's agents as a swarm file that stands elsewhere, with embedded servers."""
    lines = [MARK, "[swarm]", 'name = "demo"', "", "[limits]", f"drain_seconds = {DRAIN_SECONDS}"]
    for name, agent in config.agents.items():
        given = agent.model_dump(exclude_defaults=True) | {"character": str(root / agent.character)}
        lines += ["", f"[agents.{name}]", *(f"{key} = {_toml(value)}" for key, value in given.items())]
    return "\n".join(lines) + "\n"


def _toml(value: Any) -> str:
    """A plain value in TOML, whose strings, numbers and lists are JSON's; tables are inline."""
    match value:
        case dict():
            return "{ " + ", ".join(f"{key} = {_toml(item)}" for key, item in value.items()) + " }"
        case list() | tuple():
            return "[" + ", ".join(map(_toml, value)) + "]"
    return json.dumps(value, ensure_ascii=False)


def report_file(project: Project, folder: Path) -> Path:
    """Where the report on a folder goes: beside the demonstration's state, under the folder's name."""
    name = "".join(c if c.isascii() and (c.isalnum() or c in "-_.") else "-" for c in folder.name)
    return project.folder.parent / "reports" / f"{name.strip('-.') or 'survey'}.md"


def on_the_wire(folder: Path) -> str:
    """A path as a message can say it: itself, or a ``file:`` URI if its bytes are not UTF-8."""
    try:
        return os.fspath(folder).encode("utf-8").decode()
    except UnicodeEncodeError:
        return folder.absolute().as_uri()


def name_of(path: str, folder: Path) -> str:
    """A task's path as people can read it: relative to the folder, on one line, its odd bytes escaped."""
    local = path
    if path.startswith("file://"):
        local = os.fsdecode(unquote_to_bytes(path.removeprefix("file://")))
    text = os.fsencode(local.removeprefix(f"{folder}/")).decode("utf-8", "backslashreplace")
    text = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
    return text if text.strip() == text else f'"{text}"'
