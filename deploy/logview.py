"""The logs of a project's processes as one stream: a line at a time, each with the name of who said it.

Files are read, not pipes: whoever looks may come and go without anybody's writing being held up. A log that
was trimmed or put away is read from its new beginning.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Final, NamedTuple, TextIO

from deploy.cli.output import name_colour, paint
from swarm.project import Project

OURS: Final = frozenset({"coordinator", "node", "supervisor", "zygote", "command"})
_INSTANCE: Final = re.compile(r"(.+)-(\d+)")
POLL_SECONDS: Final = 0.15
READ_AT_ONCE: Final = 1 << 20


class Line(NamedTuple):
    name: str
    text: str


class LogView:
    """Reads what is new since the last call. `names` None: everybody; an agent's name stands for all its slots."""

    def __init__(self, project: Project, names: Collection[str] | None = None) -> None:
        self._folder = project.logs
        self._names = names
        self._offsets: dict[Path, int] = {}
        self._rests: dict[Path, bytes] = {}

    def skip(self) -> None:
        """Begin at the end of what is there."""
        for path in self._paths():
            self._offsets[path] = path.stat().st_size

    def tail(self, lines: int) -> Iterator[Line]:
        """The last lines of each log; what comes later is read by `new`."""
        for path in self._paths():
            size = path.stat().st_size
            self._offsets[path] = max(0, size - 64 * 1024)
            partial = self._offsets[path] > 0
            said = list(self._read(path))
            yield from said[1 if partial else 0 :][-lines:]

    def new(self) -> Iterator[Line]:
        for path in self._paths():
            yield from self._read(path)

    def names(self) -> set[str]:
        """Who has a log here."""
        return {agent_of(path.stem) for path in self._folder.glob("*.log")}

    def _paths(self) -> list[Path]:
        return sorted(
            path
            for path in self._folder.glob("*.log")
            if self._names is None or path.stem in self._names or agent_of(path.stem) in self._names
        )

    def _read(self, path: Path) -> Iterator[Line]:
        offset = self._offsets.get(path, 0)
        try:
            size = path.stat().st_size
            if size < offset:
                offset = 0
                self._rests.pop(path, None)
            if size == offset:
                return
            with path.open("rb") as file:
                file.seek(offset)
                data = file.read(READ_AT_ONCE)
        except FileNotFoundError:
            return
        self._offsets[path] = offset + len(data)
        *lines, rest = (self._rests.pop(path, b"") + data).split(b"\n")
        if rest:
            self._rests[path] = rest
        for line in lines:
            yield Line(path.stem, line.decode(errors="replace"))


async def follow(view: LogView, out: TextIO) -> None:
    """Print what is new, until cancelled; and once more then, so that last words are heard."""
    try:
        while True:
            put_lines(view.new(), out)
            await asyncio.sleep(POLL_SECONDS)
    finally:
        put_lines(view.new(), out)


def put_lines(lines: Iterator[Line], out: TextIO) -> None:
    for line in lines:
        out.write(f"{paint(f'{line.name:<14}', name_colour(agent_of(line.name)), out)} {line.text}\n")
    out.flush()


def agent_of(stem: str) -> str:
    """`reader` for the log ``reader-2``; our own processes are called what they are."""
    found = None if stem in OURS else _INSTANCE.fullmatch(stem)
    return found[1] if found else stem
