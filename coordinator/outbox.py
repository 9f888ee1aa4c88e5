"""The outbox: all that a coordinator sends, in the order in which it was decided.

Handlers of the bus must not wait, and the order of what goes down to an instance matters (its welcome
before its backlog). So every room puts what it has to say here, without waiting, and one loop sends it.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from typing import Any, Final

import msgspec

from bus.bus import Bus
from bus.envelope import Envelope, error_body, pack
from bus.errors import BusError, Disconnected
from bus.subjects import DOWN_TEMPLATE
from coordinator.metrics import Metrics
from swarm.failpoints import reached
from swarm.ids import new_id
from swarm.records import COORDINATOR
from swarm.tracing.tracer import UNTRACED, Tracer

log = logging.getLogger(__name__)

CARRIED: Final = ("ask", "tell", "announce", "task")
"""The kinds that start a turn."""
BURST: Final = 64
"""Messages sent in a row before others may use the event loop."""


class Outbox:
    """Unbounded, because what fills it is bounded: dispatches by capacity, asks by what comes in."""

    def __init__(
        self, bus: Bus, metrics: Metrics, may_speak: Callable[[], bool], tracer: Tracer = UNTRACED
    ) -> None:
        self._bus = bus
        self._tracer = tracer
        self._may_speak = may_speak
        self._metrics = metrics
        self._queue: deque[tuple[str, Envelope, str | None]] = deque()
        self._filled = asyncio.Event()

    def send(self, subject: str, envelope: Envelope, reply: str | None = None) -> None:
        self._queue.append((subject, envelope, reply))
        self._filled.set()

    def control(self, subject: str, to: str, body: msgspec.Struct) -> None:
        self.send(subject, control(to, body))

    def answer(self, to: Envelope, reply: str, value: Any, *, kind: str = "reply") -> None:
        """Answer the message `to` at `reply`. Whoever calls has checked whose inbox that is."""
        self.send(reply, _answer(to, kind, pack(value)))

    def fail(self, to: Envelope, reply: str, error: BusError) -> None:
        self.send(reply, _answer(to, "error", error_body(error)))

    async def run(self) -> None:
        """Send for ever. Raises Disconnected at the end of the connection."""
        while True:
            await self._filled.wait()
            self._filled.clear()
            await self.flush()

    async def flush(self) -> None:
        sent = 0
        while self._queue:
            subject, envelope, reply = self._queue.popleft()
            if not self._may_speak():
                self._queue.clear()  # somebody else speaks now
                return
            if envelope.kind != "control":
                reached("coordinator.publish.before")
            try:
                if self._tracer is not UNTRACED and envelope.kind in CARRIED:
                    await self._publish_traced(subject, envelope, reply)
                else:
                    await self._bus.publish(subject, envelope, reply=reply)
            except Disconnected:
                raise
            except BusError as error:
                # What is lost here is found like everything the wire loses.
                self._metrics.send_failures += 1
                log.warning("A message to %s could not be sent: %s", subject, error)
            if envelope.kind != "control":
                reached("coordinator.publish.after")
            sent += 1
            if sent % BURST == 0:
                await asyncio.sleep(0)

    async def _publish_traced(self, subject: str, envelope: Envelope, reply: str | None) -> None:
        """What we route is a span between those of the sender and of the recipient; for who sent no trace along,
        it begins here."""
        attributes = {
            "messaging.system": "nats",
            "messaging.operation.name": "publish",
            "messaging.destination.template": DOWN_TEMPLATE,
            "messaging.message.id": envelope.id,
            "swarm.message.kind": envelope.kind,
            "swarm.message.to": envelope.to,
        }
        with self._tracer.span("publish down", "producer", attributes, parent=envelope.traceparent) as span:
            envelope = msgspec.structs.replace(envelope, traceparent=span.traceparent)
            await self._bus.publish(subject, envelope, reply=reply)


def control(to: str, body: msgspec.Struct) -> Envelope:
    return Envelope(id=new_id(), sender=COORDINATOR, to=to, room="control", kind="control", body=pack(body))


def _answer(to: Envelope, kind: Any, body: msgspec.Raw) -> Envelope:
    return Envelope(
        id=new_id(),
        sender=COORDINATOR,
        to=to.sender,
        room=to.room,
        kind=kind,
        body=body,
        in_reply_to=to.id,
        traceparent=to.traceparent,
    )
