"""What the demonstration shows: lines with the time since its start, a tree, tasks as they end."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, TextIO

from deploy.cli.output import cell, paint

GREEN, YELLOW, RED, BOLD, GREY = 32, 33, 31, 1, 90
MARKS: Final = {
    "completed": ("✓", GREEN),
    "failed": ("✗", RED),
    "canceled": ("✗", RED),
    "rejected": ("✗", RED),
}


class Screen:
    """Everything goes to one stream, a line at a time, so that it reads the same in a log."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._began = time.monotonic()

    def title(self, text: str) -> None:
        self._put(f"\n{self._paint(text, BOLD)}")

    def say(self, text: str, colour: int | None = None) -> None:
        at = self._paint(f"{time.monotonic() - self._began:6.1f} s", GREY)
        self._put(f"{at}  {self._paint(text, colour) if colour else text}")

    def fail(self, text: str) -> None:
        self.say(text, RED)

    def block(self, lines: Iterable[str]) -> None:
        for line in lines:
            self._put(f"          {line}")

    def tree(self, roots: Sequence[Mapping[str, Any]], rows: Sequence[Mapping[str, Any]]) -> None:
        """Parents and children, each agent with its processes."""
        self.block(self._branches(roots, rows, ""))

    def task(self, percent: float, task: Any, name: str) -> None:
        """A task that ended: how, of which file, and with how many attempts if it took more than one."""
        mark, colour = MARKS[task.state]
        data = task.result.data if task.result is not None else {}
        found = [data.get("language", "")] if data.get("state") in ("read", "sampled") else []
        found += [task.error or data.get("reason", "")]
        text = f"{cell(name):<44} {' · '.join(cell(one) for one in found if one)}"
        again = self._paint(f"   attempt {task.attempts}", YELLOW) if task.attempts > 1 else ""
        self.say(f"{percent:3.0f} %  {self._paint(mark, colour)} {text}{again}")

    def _branches(
        self, nodes: Sequence[Mapping[str, Any]], rows: Sequence[Mapping[str, Any]], indent: str
    ) -> Iterable[str]:
        for number, node in enumerate(nodes, 1):
            last = number == len(nodes)
            own = [row for row in rows if row["name"] == node["name"] and row["pid"]]
            pids = ", ".join(str(row["pid"]) for row in own)
            where = f"{len(own)} process{'es'[: 2 * (len(own) != 1)]}: {pids}" if own else "stopped"
            rights = [right.replace("_", " ") for right, given in node["permissions"].items() if given]
            may = f"   may {', '.join(rights)}" if node["children"] and rights else ""
            fork = "" if not indent and number == 0 else ("└─ " if last else "├─ ")
            yield f"{indent}{fork}{node['name']:<10} {self._paint(where, GREY if own else YELLOW)}{may}"
            yield from self._branches(node["children"], rows, indent + ("   " if last else "│  "))

    def _paint(self, text: str, colour: int) -> str:
        return paint(text, colour, self._stream)

    def _put(self, line: str) -> None:
        print(line, file=self._stream, flush=True)
