"""Waiting for something to become true, woken by what happens instead of by a clock.

Whoever waits (a report, a task's end, a stop) looks again when a bell, a hello or an exit came in, at most
every `LOOK_SECONDS`, and at least every `FALLBACK_SECONDS` because bells may be lost. When nobody waits this
costs nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

LOOK_SECONDS: Final = 0.03
FALLBACK_SECONDS: Final = 1.0

T = TypeVar("T")


class Progress:
    def __init__(self) -> None:
        self._changed = asyncio.Event()

    def changed(self) -> None:
        self._changed.set()

    async def until(
        self, look: Callable[[], Awaitable[T]], satisfied: Callable[[T], bool], seconds: float
    ) -> T:
        """What `look` saw last: satisfied, or `seconds` are over."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + seconds
        while True:
            self._changed.clear()
            seen = await look()
            left = deadline - loop.time()
            if satisfied(seen) or left <= 0:
                return seen
            try:
                async with asyncio.timeout(min(left, FALLBACK_SECONDS)):
                    await self._changed.wait()
            except TimeoutError:
                continue
            await asyncio.sleep(min(LOOK_SECONDS, max(0.0, deadline - loop.time())))
