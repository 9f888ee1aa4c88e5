"""The last thing that a log says: usually why its process ended."""

from __future__ import annotations

import contextlib
import json
import re
from pathlib import Path
from typing import Final

MOST_CHARACTERS: Final = 500
_HEAD: Final = re.compile(
    r"^\d{4}-\d\d-\d\d[T ]\S+ [A-Z]+ (?:\S+ (?:[a-z_]+\.)*[a-z_]+ (?:run=\S+ message=\S+ )?(?=\S))?"
)
"""Time and level; in our own lines also who says it, from which module, about what."""


def last_line(path: Path, most: int = 4000) -> str:
    """The last line of a log that says something, without its head or a traceback's frame; empty when there is
    none. `most` are the bytes that are looked at."""
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - most))
            lines = file.read().decode(errors="replace").splitlines()
    except OSError:
        return ""
    said = (_said(line).strip(" |+-")[:MOST_CHARACTERS] for line in reversed(lines))
    return next((line for line in said if line), "")


def _said(line: str) -> str:
    if line.startswith("{"):
        with contextlib.suppress(ValueError, AttributeError):
            return str(json.loads(line).get("text", ""))
    return _HEAD.sub("", line)
