"""When most of a machine crashes, restarting it all only heats the machine."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable
from typing import Final

log = logging.getLogger(__name__)

STORM_SHARE: Final = 0.3
STORM_LEAST: Final = 4
"""Fewer crashing instances than this are their own trouble, not the machine's."""
STORM_SECONDS: Final = 10.0


class CrashStorm:
    """`slots` says how many there are, `connected` whether the bus can be reached."""

    def __init__(self, slots: Callable[[], int], connected: Callable[[], bool]) -> None:
        self._slots = slots
        self._connected = connected
        self._crashes: deque[tuple[float, str, int]] = deque(maxlen=1000)
        self._said = False

    def crashed(self, agent: str, slot: int) -> None:
        self._crashes.append((time.monotonic(), agent, slot))

    async def over(self) -> None:
        """While over 30 % of the instances crash: wait until that is over, and say so once."""
        while self._rages():
            if not self._said:
                self._said = True
                log.error(
                    "over 30 %% of the instances crash; restarts wait (the bus is %s)",
                    "reachable" if self._connected() else "not reachable",
                )
            await asyncio.sleep(1.0)
        self._said = False

    def _rages(self) -> bool:
        since = time.monotonic() - STORM_SECONDS
        crashing = {(agent, slot) for moment, agent, slot in self._crashes if moment > since}
        return len(crashing) >= STORM_LEAST and len(crashing) > STORM_SHARE * self._slots()
