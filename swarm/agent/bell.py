"""The bell: hints to the coordinator, gathered for a moment and rung once.

Lost bells do not matter, because the coordinator also sweeps; so a bell is never waited for.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable
from typing import Final

from bus.bus import Bus
from bus.envelope import Envelope, pack
from bus.errors import BusError
from bus.subjects import Subjects
from swarm.failpoints import reached
from swarm.ids import new_id
from swarm.protocol import Bell
from swarm.records import COORDINATOR

log = logging.getLogger(__name__)

MOST: Final = 1000


class BellRope:
    """Pull from anywhere on the loop; `run` rings. One bell says all that was pulled since the last."""

    def __init__(self, bus: Bus, subjects: Subjects, instance: str) -> None:
        self._bus = bus
        self._subject = subjects.up(bus.name, "bell")
        self._instance = instance
        self._pulled = asyncio.Event()
        self._done: list[int] = []
        self._to: dict[str, None] = {}
        self._returned: list[int] = []
        self._recall = False

    def pull(
        self,
        *,
        done: Iterable[int] = (),
        to: Iterable[str] = (),
        returned: Iterable[int] = (),
        recall: bool = False,
    ) -> None:
        self._done.extend(done)
        self._to.update(dict.fromkeys(to))
        self._returned.extend(returned)
        self._recall = self._recall or recall
        if self._done or self._to or self._returned or recall:
            self._pulled.set()

    async def run(self) -> None:
        while True:
            await self._pulled.wait()
            await self.ring()

    async def ring(self) -> None:
        """Ring now for all that was pulled. Never raises: whoever missed it sweeps."""
        self._pulled.clear()
        bell = Bell(
            instance=self._instance,
            done=tuple(self._done[:MOST]),
            to=tuple(self._to)[:MOST],
            returned=tuple(self._returned[:MOST]),
            recall=self._recall,
        )
        self._recall = False
        del self._done[:MOST], self._returned[:MOST]
        for name in bell.to:
            del self._to[name]
        if self._done or self._to or self._returned:
            self._pulled.set()
        envelope = Envelope(
            id=new_id(),
            sender=self._bus.name,
            to=COORDINATOR,
            room="control",
            kind="control",
            body=pack(bell),
        )
        try:
            reached("agent.bell.before")
            await self._bus.publish(self._subject, envelope)
            reached("agent.bell.after")
        except BusError as error:
            log.debug("a bell was not rung: %s", error)
