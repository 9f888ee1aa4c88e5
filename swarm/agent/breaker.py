"""A circuit breaker: what fails again and again is left alone for a while, then tried once (G6).

              more than `threshold` failures within `window` s
    CLOSED ─────────────────────────────────────────────────→ OPEN
       ↑                                            ↑           │ `reset_seconds` later
       │ the trial succeeded        the trial failed │           ↓
       └──────────────────────────────────────────── └──── HALF_OPEN: one trial at a time

A pass is asked for before each try and says afterwards how it went. Nothing here waits but `entered`.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable
from enum import StrEnum
from typing import Any, Final

log = logging.getLogger(__name__)

Sleep = Callable[[float], Awaitable[None]]
Rest = Callable[[Awaitable[Any]], Awaitable[None]]
"""Waits for something on somebody's behalf, who may end the wait: the mailbox does at its drain."""


async def rest(wait: Awaitable[Any]) -> None:
    """For those whom nobody ends."""
    await wait


class BreakerState(StrEnum):
    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"


class Breaker:
    """`clock` gives seconds that only grow. `on_open` is called each time it opens."""

    def __init__(
        self,
        name: str,
        *,
        threshold: int,
        window: float,
        reset_seconds: float,
        clock: Callable[[], float],
    ) -> None:
        self.name: Final = name
        self.trips = 0
        self.on_open: Callable[[], None] | None = None
        self._threshold = threshold
        self._window = window
        self._reset_seconds = reset_seconds
        self._clock = clock
        self._failures: deque[float] = deque(maxlen=threshold + 1)
        self._opened_at: float | None = None
        self._trial = False
        self._trial_ended = asyncio.Event()

    @property
    def state(self) -> BreakerState:
        if self._opened_at is None:
            return BreakerState.CLOSED
        return BreakerState.OPEN if self.seconds_left() > 0 else BreakerState.HALF_OPEN

    @property
    def lets_in(self) -> bool:
        """Whether `enter` would let somebody in now."""
        return self.state is BreakerState.CLOSED or (self.state is BreakerState.HALF_OPEN and not self._trial)

    def seconds_left(self) -> float:
        """Until a trial is let in; 0 when it is not open."""
        if self._opened_at is None:
            return 0.0
        return max(0.0, self._opened_at + self._reset_seconds - self._clock())

    def enter(self) -> Pass | None:
        """A pass for one try, or None at once. A half-open breaker lets one trial in at a time."""
        if not self.lets_in:
            return None
        trial = self._opened_at is not None
        if trial:
            self._trial = True
            self._trial_ended.clear()
        return Pass(self, trial)

    async def entered(self, sleep: Sleep, rest: Rest = rest) -> Pass:
        """A pass, waited for: until the reset, and while another's trial runs."""
        while True:
            given = self.enter()
            if given is not None:
                return given
            if self._trial:
                await rest(self._trial_ended.wait())
            else:
                await rest(sleep(self.seconds_left()))

    def _ended(self, trial: bool, succeeded: bool | None) -> None:
        if trial:
            self._trial = False
            self._trial_ended.set()
            if succeeded:
                self._close()
            elif succeeded is False:
                self._open()
        elif succeeded is False and self._opened_at is None:
            now = self._clock()
            self._failures.append(now)
            if len(self._failures) > self._threshold and now - self._failures[0] <= self._window:
                self._open()

    def _open(self) -> None:
        self._opened_at = self._clock()
        self._failures.clear()
        self.trips += 1
        log.error("the breaker %s is open for %g s: too many messages failed", self.name, self._reset_seconds)
        if self.on_open is not None:
            self.on_open()

    def _close(self) -> None:
        self._opened_at = None
        log.info("the breaker %s is closed again", self.name)


class Pass:
    """Leave to try once. Say how it went exactly once; later words change nothing."""

    __slots__ = ("_breaker", "_trial")

    def __init__(self, breaker: Breaker, trial: bool) -> None:
        self._breaker: Breaker | None = breaker
        self._trial = trial

    def succeeded(self) -> None:
        self._end(True)

    def failed(self) -> None:
        self._end(False)

    def unused(self) -> None:
        """It says nothing about what the breaker guards: cancelled, or something else was away."""
        self._end(None)

    def _end(self, succeeded: bool | None) -> None:
        breaker, self._breaker = self._breaker, None
        if breaker is not None:
            breaker._ended(self._trial, succeeded)
