"""What a run leaves behind: the recorder's events and the rows of the database. The checker reads nothing else."""

from __future__ import annotations

import json
import os
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

Row = dict[str, Any]


@dataclass
class Evidence:
    """`events` are the recorder's lines in order; all other fields are rows as they stood after the quiescence.

    deliveries  seq message sender recipient address room kind state attempts crashes hops origin text n
    tasks       id parent child state attempts max_attempts failures result(bool)
    agents      name parent reserved and the four rights
    effects     agent message sender room n, in the order of writing
    audit       what a trigger saw, in the order of writing: what(delivery, task, lease) id old new epoch leased writer
    """

    events: list[Row] = field(default_factory=list)
    deliveries: list[Row] = field(default_factory=list)
    tasks: list[Row] = field(default_factory=list)
    agents: list[Row] = field(default_factory=list)
    effects: list[Row] = field(default_factory=list)
    audit: list[Row] = field(default_factory=list)

    def of(self, *what: str) -> list[Row]:
        return [event for event in self.events if event["what"] in what]

    def save(self, file: Path) -> None:
        file.write_text(json.dumps(asdict(self)))

    @classmethod
    def load(cls, file: Path) -> Evidence:
        return cls(**json.loads(file.read_text()))


class Recorder:
    """One `O_APPEND` write for each event, so that a process that is killed loses nothing it has said."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self._descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)

    def note(self, what: str, **fields: Any) -> None:
        line = json.dumps({"t": round(time.monotonic(), 4), "what": what, **fields})
        os.write(self._descriptor, line.encode() + b"\n")

    def events(self) -> list[Row]:
        """In the order of the clock, which all processes of a machine share."""
        lines = [json.loads(line) for line in self.file.read_bytes().splitlines() if line]
        return sorted(lines, key=lambda event: event["t"])

    def close(self) -> None:
        os.close(self._descriptor)
