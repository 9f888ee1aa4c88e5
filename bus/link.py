"""Whether a bus is connected, and waiting until it is. Shared by all buses."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable

from bus.errors import Disconnected, TooLate

log = logging.getLogger(__name__)

StateCallback = Callable[[bool], None]
"""Called with False when a connection is lost and with True when it is back."""


class Link:
    """Down at first, then up and down at will, then ended: for good."""

    def __init__(self, name: str, on_state: StateCallback | None) -> None:
        self.ended = asyncio.Event()
        self.up = False
        self._name = name
        self._on_state = on_state
        self._settled = asyncio.Event()  # up or ended

    def begin(self) -> None:
        """Up for the first time, which is nothing to tell."""
        self.up = True
        self._settled.set()

    def lose(self) -> None:
        if self.up:
            self.up = False
            self._settled.clear()
            self._tell(False)

    def regain(self) -> None:
        if not self.up and not self.ended.is_set():
            self.begin()
            self._tell(True)

    def end(self) -> None:
        self.up = False
        self.ended.set()
        self._settled.set()

    def gone(self) -> Disconnected:
        return Disconnected(f"The connection of {self._name} to the bus is closed.")

    def require_open(self) -> None:
        """Raises Disconnected after the end."""
        if self.ended.is_set():
            raise self.gone()

    async def wait_up(self, timeout: float | None = None) -> float:
        """Wait for the connection; returns how many of the `timeout` seconds are left (0 without one).

        Raises TooLate at the timeout and Disconnected after the end.
        """
        started = time.monotonic()
        try:
            async with asyncio.timeout(timeout):
                while not self.up:
                    self.require_open()
                    await self._settled.wait()
        except TimeoutError:
            raise TooLate(
                f"{self._name} has had no connection to the bus for {timeout:g} s; is it running?",
                reason="not_connected",
            ) from None
        return 0.0 if timeout is None else max(0.0, timeout - (time.monotonic() - started))

    def _tell(self, connected: bool) -> None:
        if self._on_state is not None:
            try:
                self._on_state(connected)
            except Exception:
                log.exception("The on_state callback of %s failed", self._name)
