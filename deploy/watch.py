"""`swarm up --watch`: look at what the swarm is made of, and converge on it when it has changed.

Looked at are swarm.toml and the files of each agent's folder: their times and sizes, every half second, in a thread.
What has changed and then stayed the same for one look is applied: so an editor that writes twice, or a checkout of
many files, is one change. Nothing is applied that does not load: the sentence is said once, and what runs stays.
"""

from __future__ import annotations

import asyncio
import dataclasses
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

from bus.errors import BusError
from deploy.converging import converge
from deploy.provision import Plan, load_plan, source_of
from deploy.supervisor import is_locked
from swarm.errors import SwarmError
from swarm.project import Project

LOOK_SECONDS: Final = 0.5
MOST_FILES: Final = 5000
"""In one agent's folder; a folder with more is watched as far as that."""

Look = dict[str, tuple[tuple[str, int, int], ...]]
"""By agent, and "" for swarm.toml: each file's path, time and size."""
Say = Callable[[dict[str, Any]], None]


class Watch:
    """`say` gets an object for each change: `{"changed": [names], "changes": [sentences], "missing": [sentences],
    "kept": [sentences: what does not load]}`, names "" for swarm.toml."""

    def __init__(self, project: Project, plan: Plan, say: Say) -> None:
        self._project = project
        self._plan = plan
        self._say = say
        self._applied = _look_at(self._places())
        self._pending: set[str] = set()
        """What has changed and could not be applied yet."""

    async def run(self) -> None:
        """For ever, or until the swarm has ended. Begins when it is ready."""
        seen, ready = self._applied, False
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            state = self._project.state()
            ready = ready or (state is not None and state.ready)
            if ready and not is_locked(self._project):
                return
            now = await asyncio.to_thread(_look_at, self._places())
            settled, seen = now == seen, now
            if ready and settled and now != self._applied:
                await self._apply(now)

    def _places(self) -> dict[str, Path]:
        sources = {plan.name: source_of(self._project, plan.source) for plan in self._plan.agents}
        return {"": self._project.file} | {
            name: source for name, source in sources.items() if isinstance(source, Path)
        }

    async def _apply(self, now: Look) -> None:
        before, self._applied = self._applied, now
        self._pending |= {name for name in {*now, *before} if now.get(name) != before.get(name)}
        changed = sorted(self._pending)
        said: dict[str, Any] = {"changed": changed, "changes": [], "missing": [], "kept": []}
        try:
            plan = await load_plan(self._project)
            broken = await self._broken([name for name in changed if name])
            if broken:
                said["kept"] += broken.values()
                plan = self._without(plan, broken)
            done = await converge(self._project, plan, self._to_restart(plan, changed, broken))
            self._plan, self._pending = plan, set(broken)
            said["changes"], said["missing"] = done.changes, done.missing
            found = await asyncio.to_thread(_look_at, self._places())
            self._applied = {name: now.get(name, look) for name, look in found.items()}
        except* (SwarmError, BusError, OSError) as group:
            said["kept"].append(str(_first(group)))
        self._say(said)

    async def _broken(self, names: list[str]) -> dict[str, str]:
        """Those of these agents with code that does not load, and what is wrong with it: tried in processes of their
        own, because nothing else can say it."""
        from deploy.doctor.plugin import check_plugin

        broken: dict[str, str] = {}
        known = {plan.name: plan.source for plan in self._plan.agents}
        for name in names:
            folder = source_of(self._project, known.get(name, ""))
            if name not in known or not isinstance(folder, Path):
                continue
            for one in [folder, *sorted((folder / "plugins").glob("*"))]:
                if (one / "plugin.py").is_file() and name not in broken:
                    _, finding = await check_plugin(one.name, [folder], self._project.folder)
                    if finding.verdict == "fault":
                        broken[name] = f"{name} stays as it runs: {finding.text}"
        return broken

    def _without(self, plan: Plan, broken: dict[str, str]) -> Plan:
        """The plan in which the broken ones are as they were."""
        old = {one.name: one for one in self._plan.agents}
        agents = tuple(old.get(one.name, one) if one.name in broken else one for one in plan.agents)
        return dataclasses.replace(plan, agents=agents)

    def _to_restart(self, plan: Plan, changed: list[str], broken: dict[str, str]) -> tuple[str, ...]:
        """Whose code or settings are others although the character is the same; a new character restarts by itself."""
        old = {one.name: one for one in self._plan.agents}
        before, now = self._plan.config, plan.config
        return tuple(
            one.name
            for one in plan.agents
            if (was := old.get(one.name)) is not None
            and one.name not in broken
            and one.version == was.version
            and (one.name in changed or before.settings_of(one.name) != now.settings_of(one.name))
        )


def _look_at(places: dict[str, Path]) -> Look:
    return {name: tuple(sorted(_files(place))) for name, place in places.items()}


def _files(place: Path) -> Iterator[tuple[str, int, int]]:
    """Of a folder all that is in it but hidden files and what Python keeps; of a file itself."""
    paths = [place] if place.is_file() else []
    for folder, folders, names in os.walk(place):
        folders[:] = [name for name in folders if name != "__pycache__" and not name.startswith(".")]
        paths += [Path(folder, name) for name in names if not name.startswith(".") and not name.endswith("~")]
        if len(paths) > MOST_FILES:
            break
    for path in paths[:MOST_FILES]:
        try:
            found = path.stat()
        except OSError:
            continue  # it was there a moment ago
        yield str(path), found.st_mtime_ns, found.st_size


def _first(error: BaseException) -> BaseException:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
