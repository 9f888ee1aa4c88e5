"""The duty of PID 1: whoever loses its parent in a container becomes our child, and somebody must reap it."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Final

EVERY_SECONDS: Final = 1.0


async def reap_strays(ours: Callable[[], Collection[int]]) -> None:
    """For ever: reap what has ended and is none of `ours`, whose ends others wait for. Returns at once unless we are
    PID 1."""
    while os.getpid() == 1:
        for pid in _children():
            if pid not in ours():
                with contextlib.suppress(ChildProcessError):
                    os.waitpid(pid, os.WNOHANG)  # noqa: ASYNC222 - it does not wait
        await asyncio.sleep(EVERY_SECONDS)


def _children() -> list[int]:
    try:
        return [int(pid) for pid in Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()]
    except OSError:
        return []
