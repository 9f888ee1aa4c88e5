"""A file of JSON lines that never grows beyond its bounds: full, it moves aside and a new one begins."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec


@dataclass(frozen=True, slots=True)
class Journal:
    """At most `most_bytes` in `file` and in each of `kept` older ones (`file.1` is the youngest).

    Readable by its owner only, since people's words are in it. Blocks: call it in a thread, and one call
    at a time. Two processes need two files.
    """

    file: Path
    most_bytes: int = 1_000_000
    kept: int = 4

    def append(self, entry: dict[str, Any]) -> None:
        """Raises OSError when the disk does not take it."""
        line = msgspec.json.encode(entry) + b"\n"
        self.file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        if self._size() + len(line) > self.most_bytes:
            self._rotate()
        descriptor = os.open(self.file, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        with os.fdopen(descriptor, "ab") as file:
            file.write(line)

    def _size(self) -> int:
        return self.file.stat().st_size if self.file.exists() else 0

    def _rotate(self) -> None:
        """The oldest goes, each other moves one place up, and the file makes way."""
        if not self.file.exists():
            return
        self._older(self.kept).unlink(missing_ok=True)
        for n in range(self.kept - 1, 0, -1):
            if self._older(n).exists():
                self._older(n).replace(self._older(n + 1))
        if self.kept:
            self.file.replace(self._older(1))
        else:
            self.file.unlink()

    def _older(self, n: int) -> Path:
        return self.file.with_name(f"{self.file.name}.{n}")
