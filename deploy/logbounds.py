"""The logs of a run's processes are bounded: whatever they say, for however long, the disk does not fill."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Final

from deploy.processes import trim_log

EVERY_SECONDS: Final = 20.0
LIMIT: Final = 10_000_000
"""Bytes of one log; as much again is kept beside it, as ``NAME.log.1``."""


async def bound_logs(folder: Path, *, every: float = EVERY_SECONDS, limit: int = LIMIT) -> None:
    """Watch over all logs in `folder` for ever; the supervisor's own is among them."""
    while True:
        await asyncio.to_thread(_trim, folder, limit)
        await asyncio.sleep(every)


def _trim(folder: Path, limit: int) -> None:
    for log in sorted(folder.glob("*.log")):
        trim_log(log, limit)
