"""How often something that dies may be started again: a budget, as plain data and without a clock of its own.

Backoff doubles from 0.5 to 30 s with jitter and begins anew after 60 s of health. Five crashes within 60 s
exhaust the budget: the process is *quarantined*, which is the end of restarting until somebody resumes it.

A SIGKILL that hits what was up and running is somebody else's doing (a person, the kernel that needs memory)
and no crash loop: it is started again soon, and the budget is not touched. The message it had in hand still
counts its crashes, so that one which eats all memory dies by them.
"""

from __future__ import annotations

import random
from collections import deque
from typing import Final

FIRST_WAIT: Final = 0.5
LONGEST_WAIT: Final = 30.0
HEALTHY_SECONDS: Final = 60.0
UP_SECONDS: Final = 0.5
"""What lives so long has started; a start takes a tenth of it."""
CRASHES: Final = 5
WINDOW_SECONDS: Final = 60.0


class RestartBudget:
    """Times are seconds of one monotonic clock."""

    def __init__(self, first_wait: float = FIRST_WAIT) -> None:
        self._chance = random.Random()  # noqa: S311 - jitter needs no secrecy
        self._crashes: deque[float] = deque(maxlen=CRASHES)
        self._first_wait = self._wait = first_wait

    def ended(self, began: float, now: float, *, crashed: bool = True) -> float:
        """Something that ran from `began` to `now` is gone: how many seconds to wait before the next start."""
        if now - began >= HEALTHY_SECONDS:
            self.forgive()
        if crashed:
            self._crashes.append(now)
        wait = self._wait
        self._wait = min(LONGEST_WAIT, wait * 2)
        return wait * self._chance.uniform(0.75, 1.25)

    def killed(self, began: float, now: float) -> float:
        """As `ended`, for what was killed from outside."""
        if now - began < UP_SECONDS:
            return self.ended(began, now)
        return self._first_wait * self._chance.uniform(0.75, 1.25)

    @property
    def exhausted(self) -> bool:
        """Whether the last five crashes lie within 60 s."""
        return len(self._crashes) == CRASHES and self._crashes[-1] - self._crashes[0] <= WINDOW_SECONDS

    def forgive(self) -> None:
        self._crashes.clear()
        self._wait = self._first_wait
