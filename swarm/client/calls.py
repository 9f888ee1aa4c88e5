"""What every part of the client stands on: a request of an operator, and how long an answer may take."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

QUERY_SECONDS: Final = 5.0
"""For a question; beyond its own timeout also for what waits for something."""
CHANGE_SECONDS: Final = 60.0


class Calls:
    _folder: Path
    """The project's."""

    async def _call(self, verb: str, within: float = QUERY_SECONDS, /, **arguments: Any) -> dict[str, Any]:
        raise NotImplementedError

    async def _rows(self, verb: str, **arguments: Any) -> list[dict[str, Any]]:
        raise NotImplementedError


def on_behalf_of(name: str | None) -> dict[str, str]:
    """The argument that says on whose behalf; `as` is a word of Python's."""
    return {} if name is None else {"as": name}
