"""The SQL statements, from `swarm/sql/queries/*.sql`: each begins with a line `-- name: …`."""

from __future__ import annotations

import re
from importlib.resources import files

_NAME = re.compile(r"^-- name: (\w+)$", re.MULTILINE)


def load(file: str) -> dict[str, str]:
    """The statements of one file by name. Raises ValueError if a name is there twice."""
    text = (files("swarm") / "sql" / "queries" / file).read_text("utf-8")
    parts = _NAME.split(text)
    found: dict[str, str] = {}
    for name, statement in zip(parts[1::2], parts[2::2], strict=True):
        if name in found:
            raise ValueError(f"{file} has two statements called {name}")
        found[name] = statement.strip().rstrip(";")
    return found
