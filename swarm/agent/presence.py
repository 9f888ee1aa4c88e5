"""How an instance says that it is there: hello until it is welcomed, then a beat from its event loop.

A beat that the loop itself sends is the liveness that counts: a blocked loop falls silent. When the
coordinator calls the roll (it is new, or does not know this instance), hello is said again with the
deliveries in hand, so that they are not sent twice.
"""

from __future__ import annotations

import asyncio
import logging
import os
from typing import Final

from bus.bus import Bus
from bus.envelope import Envelope, pack, read_body
from bus.errors import BusError
from bus.subjects import Subjects
from swarm.agent.mailbox import Mailbox
from swarm.agent.metrics import Metrics, resident_bytes
from swarm.agent.spec import AgentSpec
from swarm.failpoints import reached
from swarm.ids import new_id
from swarm.protocol import BEAT_SECONDS, Beat, Goodbye, Hello, InstanceStatus, Welcome
from swarm.records import COORDINATOR

log = logging.getLogger(__name__)

HELLO_SECONDS: Final = 5.0
HELLO_WAIT: Final = 0.25


class Presence:
    def __init__(
        self, spec: AgentSpec, bus: Bus, subjects: Subjects, mailbox: Mailbox, metrics: Metrics
    ) -> None:
        self._spec = spec
        self._bus = bus
        self._subjects = subjects
        self._mailbox = mailbox
        self._metrics = metrics
        self._called = asyncio.Event()
        self._beat_seconds = BEAT_SECONDS
        self.status: InstanceStatus = "ready"

    def roll_call(self) -> None:
        """The coordinator is new, or does not know us."""
        self._called.set()

    async def run(self, welcomed: asyncio.Event) -> None:
        """Hello now and at every roll call, a beat in between; sets `welcomed`. Never ends by itself."""
        self._called.set()
        while True:
            if self._called.is_set():
                await self._say_hello()
                welcomed.set()
            await self.beat()
            try:
                async with asyncio.timeout(self._beat_seconds):
                    await self._called.wait()
            except TimeoutError:
                continue

    async def _say_hello(self) -> None:
        """Until it is answered: a coordinator that is away will be back."""
        wait = HELLO_WAIT
        while True:
            self._called.clear()
            reached("agent.hello")
            hello = Hello(
                instance=self._spec.instance,
                version=self._spec.version,
                node=self._spec.node,
                pid=os.getpid(),
                capacity=self._spec.capacity,
                in_flight=self._mailbox.in_flight,
            )
            try:
                reply = await self._bus.request(
                    self._subjects.up(self._spec.agent, "hello"), self._envelope(hello), timeout=HELLO_SECONDS
                )
                self._beat_seconds = read_body(reply, Welcome).beat_seconds
                return
            except BusError as error:
                log.info("no welcome yet: %s", error)
                await asyncio.sleep(wait)
                wait = min(wait * 2, 2.0)

    async def beat(self) -> None:
        beat = Beat(
            instance=self._spec.instance,
            status=self.status,
            in_flight=self._mailbox.running,
            queued=self._mailbox.queued,
            rss_mb=resident_bytes() / 1_048_576,
            turns=self._metrics.turns,
            errors=self._metrics.errors,
        )
        await self._publish("beat", self._envelope(beat))

    async def say_draining(self) -> None:
        """No new work, please."""
        self.status = "draining"
        await self.beat()

    async def say_goodbye(self) -> None:
        goodbye = Goodbye(instance=self._spec.instance, returned=self._mailbox.in_flight)
        await self._publish("goodbye", self._envelope(goodbye))

    async def _publish(self, verb: str, envelope: Envelope) -> None:
        try:
            await self._bus.publish(self._subjects.up(self._spec.agent, verb), envelope)
        except BusError as error:
            log.debug("no %s was sent: %s", verb, error)

    def _envelope(self, body: Hello | Beat | Goodbye) -> Envelope:
        return Envelope(
            id=new_id(),
            sender=self._spec.agent,
            to=COORDINATOR,
            room="control",
            kind="control",
            body=pack(body),
        )
