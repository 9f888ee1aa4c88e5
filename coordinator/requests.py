"""Requests in hand: bounded in all, and for each sender, so that one that floods leaves room for the others."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Coroutine
from typing import Any, Final

MOST: Final = 512
"""Of all senders together."""
SHARE: Final = MOST // 2
"""Of one sender; beyond it, and beyond MOST, a request is refused as busy."""


class Requests:
    """`group` owns them; without one nothing is taken."""

    def __init__(self) -> None:
        self.group: asyncio.TaskGroup | None = None
        self._in_hand: Counter[str] = Counter()

    def take(self, sender: str, work: Coroutine[Any, Any, None]) -> bool:
        """Whether it is worked on; if not, it was never begun."""
        full = self._in_hand.total() >= MOST or self._in_hand[sender] >= SHARE
        if self.group is None or full:
            work.close()
            return False
        self._in_hand[sender] += 1
        self.group.create_task(work).add_done_callback(lambda _task: self._ended(sender))
        return True

    def _ended(self, sender: str) -> None:
        self._in_hand[sender] -= 1
        if not self._in_hand[sender]:
            del self._in_hand[sender]
