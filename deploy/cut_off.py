"""A node that is cut off from the bus, and is not the only one, ends what it runs: it is placed elsewhere by now.

The fence is in the ledger, where a delivery is committed once, whoever has it in hand. This is for all else that an
instance does by itself: a timer of a plugin should not go off on two machines for as long as a cable is out. What is
in hand may be finished, within the time of a drain. A node that is alone keeps all it has, since nobody took it over.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from typing import Final

log = logging.getLogger(__name__)

CUT_OFF_SECONDS: Final = 10.0
"""Longer than it takes to place a silent node's instances elsewhere (three beats)."""


class CutOff:
    """`others` is what the coordinator said last: whether somebody else could run these."""

    def __init__(self, connected: Callable[[], bool], seconds: float = CUT_OFF_SECONDS) -> None:
        self._connected = connected
        self._seconds = seconds
        self.others = False

    async def run(self, end_all: Callable[[], int], back: Callable[[], None]) -> None:
        """Watches for ever: calls `end_all` once each time the bus was away too long, and `back` when it is there
        again after that."""
        last = time.monotonic()
        ended = False
        while True:
            await asyncio.sleep(0.5)
            now = time.monotonic()
            if self._connected():
                last = now
                if ended:
                    ended = False
                    back()
            elif self.others and not ended and now - last >= self._seconds:
                ended = True
                log.error(
                    "cut off from the bus for %.0f s; ending %d instances, other nodes have their places",
                    now - last,
                    end_all(),
                )
