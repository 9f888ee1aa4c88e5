"""One place for one instance on a node: it is kept filled as long as it is wanted.

    starting → running → (draining) → gone
                  │ crashed: backoff → starting, or quarantined when the budget is exhausted
                  │ ended with 64, 77 or 78: quarantined at once, because another start would not help

What is wanted may change at any time (another generation, nothing at all, the same again while it drains);
the loop in `run` notices through one event and acts from the state it is in.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import signal
import string
import time
from pathlib import Path
from typing import Any, Final, Literal, Protocol

from deploy.last_line import last_line
from deploy.restarts import RestartBudget
from deploy.zygote import Exited, ZygoteFailed
from swarm.protocol import NodeInstance, Placement

log = logging.getLogger(__name__)

NO_RESTART: Final = {64: "bad usage", 77: "refused", 78: "bad configuration"}
RESTART_ME: Final = 75
DEPENDENCY_DOWN: Final = 69
HURRY_SECONDS: Final = 5.0
"""Between the second SIGTERM of a drain and SIGKILL."""
DUMP_SECONDS: Final = 1.0
"""What an instance that has missed its beats gets to write its stacks to its log."""
Status = Literal["starting", "running", "draining", "backoff", "quarantined", "stopped"]
_RANDOM: Final = string.ascii_lowercase + string.digits


class Forker(Protocol):
    """What a slot needs of its node."""

    async def fork(
        self, placement: Placement, instance: str, log_file: Path
    ) -> tuple[int, asyncio.Future[Exited]]:
        """Start an instance; its pid and what will say how it ended. Raises ZygoteFailed."""

    def signal(self, pid: int, number: int, *, group: bool = False) -> None: ...

    def changed(self, slot: Slot, exited: Exited | None = None, crashed: bool = False) -> None:
        """The slot's state is another; with `exited`, an instance is gone."""

    async def settled(self) -> None:
        """Returns when restarting makes sense: not while most of the node crashes."""


class Slot:
    """`wanted` None means: drain, and end. All times in seconds."""

    def __init__(
        self,
        wanted: Placement,
        log_file: Path,
        forker: Forker,
        drain_seconds: float,
        budget: RestartBudget | None = None,
    ) -> None:
        self.wanted: Placement | None = wanted
        self.log_file = log_file
        self._forker = forker
        self._drain_seconds = drain_seconds
        self._budget = budget or RestartBudget()
        self._changed = asyncio.Event()
        self._hurried = 0
        self._blocked = ""
        self._placement = wanted
        self.instance = _name(wanted.slot)
        self.pid = 0
        self.status: Status = "starting"
        self.restarts = 0
        self.reason = ""

    def want(self, placement: Placement | None) -> None:
        """Change what is wanted. The same generation is the same wish, whatever else the coordinator adds."""
        old = self.wanted
        if (old is None) != (placement is None) or (
            old and placement and old.generation != placement.generation
        ):
            self.wanted = placement
            self._changed.set()

    def hurry(self) -> None:
        """Drain faster: each call takes the next step of SIGTERM, SIGTERM, SIGKILL."""
        self._hurried += 1
        self._changed.set()

    def unresponsive(self, agent: str, instance: str) -> None:
        """This instance has fallen silent: it says where it stands, if it still can, and is ended."""
        if (agent, instance) == (self._placement.agent, self.instance):
            self._blocked = instance
            self._changed.set()

    def snapshot(self) -> NodeInstance:
        return NodeInstance(
            agent=self._placement.agent,
            slot=self._placement.slot,
            instance=self.instance,
            pid=self.pid,
            status=self.status,
            restarts=self.restarts,
            generation=self._placement.generation,
            reason=self.reason[:1000],
        )

    async def run(self) -> None:
        """Returns when nothing is wanted here any more and no process is left."""
        while (placement := self.wanted) is not None:
            if placement != self._placement:
                self._budget.forgive()
                self.restarts, self.reason = 0, ""
            self._placement = placement
            wait = await self._live(placement)
            if wait is None or wait > 0:
                await self._pause(placement, wait)
                if wait is not None and self.wanted == placement:
                    await self._forker.settled()
            if self.wanted == placement:
                self.restarts += 1

    async def _live(self, placement: Placement) -> float | None:
        """One instance from its fork to its end. Seconds to wait before the next; None: until told otherwise."""
        self.instance = _name(placement.slot)
        self._say("starting")
        began = time.monotonic()
        try:
            self.pid, gone = await self._forker.fork(placement, self.instance, self.log_file)
        except ZygoteFailed as error:
            self._say("backoff", str(error))
            return self._budget.ended(began, time.monotonic(), crashed=False)
        self._say("running")
        exited = await self._watch(placement, gone)
        self.pid = 0
        return self._judge(placement, exited, began)

    async def _watch(self, placement: Placement, gone: asyncio.Future[Exited]) -> Exited:
        """Until the process is gone, draining it as soon as something else is wanted."""
        while not gone.done() and self.wanted == placement and self._blocked != self.instance:
            await self._either(gone, None)
        if not gone.done() and self._blocked == self.instance:
            return await self._end_blocked(gone)
        if gone.done():
            return gone.result()
        self._say("draining")
        self._hurried = 0
        steps = (
            (signal.SIGTERM, self._drain_seconds),
            (signal.SIGTERM, HURRY_SECONDS),
            (signal.SIGKILL, 10.0),
        )
        for number, (step, seconds) in enumerate(steps, 1):
            self._forker.signal(self.pid, step, group=step == signal.SIGKILL)
            until = time.monotonic() + seconds
            while not gone.done() and self._hurried < number and (left := until - time.monotonic()) > 0:
                await self._either(gone, left)
            if gone.done():
                break
        return await gone

    async def _end_blocked(self, gone: asyncio.Future[Exited]) -> Exited:
        log.error("%s has missed its beats; its stacks go to its log, and it is ended", self._label)
        self._forker.signal(self.pid, signal.SIGABRT)
        until = time.monotonic() + DUMP_SECONDS
        while not gone.done() and (left := until - time.monotonic()) > 0:
            await self._either(gone, left)  # one that is frozen does not hear it
        if not gone.done():
            self._forker.signal(self.pid, signal.SIGKILL, group=True)
        return await gone

    def _judge(self, placement: Placement, exited: Exited, began: float) -> float | None:
        asked = self.wanted != placement
        crashed = not (exited.code == 0 and exited.signal == 0) and not (
            not exited.signal and exited.code in (RESTART_ME, DEPENDENCY_DOWN)
        )
        now = time.monotonic()
        self.reason = "" if exited.code == 0 and not exited.signal else self._why(exited)
        self._forker.changed(self, exited, crashed=crashed)
        if asked:
            self._say("stopped", self.reason)
            return 0.0
        if exited.code in NO_RESTART and not exited.signal:
            log.error("%s is not started again: %s", self._label, self.reason)
            self._say("quarantined", self.reason)
            return None
        if exited.signal == signal.SIGKILL and self._blocked != self.instance:
            wait = self._budget.killed(began, now)
        else:
            wait = self._budget.ended(began, now, crashed=crashed)
        if self._budget.exhausted:
            log.error("%s crashed 5 times within a minute and is quarantined: %s", self._label, self.reason)
            self._say("quarantined", self.reason)
            return None
        if exited.code == RESTART_ME and now - began > 1.0:
            wait = 0.0
        log.warning("%s ended (%s); starting again in %.1f s", self._label, self.reason or "code 0", wait)
        self._say("backoff" if wait else "starting", self.reason)
        return wait

    async def _pause(self, placement: Placement, seconds: float | None) -> None:
        until = None if seconds is None else time.monotonic() + seconds
        while self.wanted == placement:
            left = None if until is None else until - time.monotonic()
            if left is not None and left <= 0:
                return
            await self._either(None, left)

    async def _either(self, gone: asyncio.Future[Exited] | None, seconds: float | None) -> None:
        """Until the process is gone, something changed, or the seconds are over."""
        self._changed.clear()
        waiter = asyncio.ensure_future(self._changed.wait())
        try:
            waited: set[asyncio.Future[Any]] = {waiter}
            if gone is not None:
                waited.add(gone)
            await asyncio.wait(waited, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        finally:
            waiter.cancel()

    def _say(self, status: Status, reason: str | None = None) -> None:
        self.status = status
        if reason is not None:
            self.reason = reason
        self._forker.changed(self)

    def _why(self, exited: Exited) -> str:
        if self._blocked == self.instance:
            return "it missed three beats and was ended; if it was blocked, its log says where"
        how = (
            f"killed by {signal.Signals(exited.signal).name}" if exited.signal else f"exit code {exited.code}"
        )
        if not exited.signal and exited.code in NO_RESTART:
            how += f", {NO_RESTART[exited.code]}"
        last = last_line(self.log_file)
        return f"{how}: {last}" if last else how

    @property
    def _label(self) -> str:
        return f"{self._placement.agent}/{self.instance}"


def _name(slot: int) -> str:
    return f"{slot}-{''.join(secrets.choice(_RANDOM) for _ in range(6))}"
