"""The bus in memory: for tests, of ours and of users. It keeps the same promises as the one on NATS.

Messages are encoded and decoded on the way, so that bounds hold; they are delivered on the event loop, in
order, never inside `publish`; permissions are refused as the server refuses them, silently but counted.

    broker = MemoryBroker()
    asker, answerer = broker.connect("asker"), broker.connect("answerer")
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable
from typing import Final

from bus.asks import Asks
from bus.bus import Handler
from bus.door import Door, count, new_counters
from bus.envelope import Envelope, encode
from bus.errors import Refused, TooLate
from bus.link import Link, StateCallback
from bus.patterns import check_pattern, check_subject, covers
from bus.permissions import Permissions

_ANYTHING: Final = Permissions(publish=(">",), subscribe=(">",))
Receiver = Callable[[str, bytes, str | None], None]


class MemoryBroker:
    """What the server is to the other bus. Use it within one event loop."""

    def __init__(self) -> None:
        self._buses: list[MemoryBus] = []

    def connect(
        self,
        name: str,
        permissions: Permissions | None = None,
        *,
        on_state: StateCallback | None = None,
    ) -> MemoryBus:
        """A connection under `name`, at once. Without `permissions` it may do anything."""
        bus = MemoryBus(self, name, permissions or _ANYTHING, on_state)
        self._buses.append(bus)
        return bus

    def cut(self, name: str) -> None:
        """Every connection of `name` loses the broker: nothing comes or goes until `heal`."""
        for bus in self._of(name):
            bus._set_connected(False)

    def heal(self, name: str) -> None:
        """The connections of `name` come back with their subscriptions; what was sent meanwhile is lost."""
        for bus in self._of(name):
            bus._set_connected(True)

    def expel(self, name: str) -> None:
        """End the connections of `name` for good, as the server does when credentials expire."""
        for bus in self._of(name):
            bus._end()

    def _of(self, name: str) -> list[MemoryBus]:
        return [bus for bus in self._buses if bus.name == name]

    def _carry(self, subject: str, data: bytes, reply: str | None) -> int:
        """Queue for everyone who listens; returns how many do."""
        return sum(bus._take(subject, data, reply) for bus in list(self._buses))

    def _forget(self, bus: MemoryBus) -> None:
        if bus in self._buses:
            self._buses.remove(bus)


class MemoryBus:
    """See `bus.bus.Bus` for what its methods promise; made by `MemoryBroker.connect`."""

    def __init__(
        self,
        broker: MemoryBroker,
        name: str,
        permissions: Permissions,
        on_state: StateCallback | None = None,
    ) -> None:
        self.name = name
        self.counters = new_counters()
        self._broker = broker
        self._permissions = permissions
        self._asks = Asks(name, self.counters)
        self._listeners: list[tuple[str, Receiver]] = [(self._asks.pattern, self._answered)]
        self._inbound: deque[tuple[Receiver, str, bytes, str | None]] = deque()
        self._delivering = False
        self._answerable: dict[str, list[float]] = {}
        self._link = Link(name, on_state)
        self._link.begin()

    @property
    def connected(self) -> bool:
        return self._link.up

    async def publish(self, subject: str, envelope: Envelope, *, reply: str | None = None) -> None:
        data = encode(envelope)
        check_subject(subject)
        if reply:
            check_subject(reply)
        self._link.require_open()
        self._send(subject, data, reply)

    async def request(
        self,
        subject: str,
        envelope: Envelope,
        *,
        timeout: float,
        on_chunk: Callable[[Envelope], None] | None = None,
    ) -> Envelope:
        data = encode(envelope)
        check_subject(subject)
        self._link.require_open()
        if timeout <= 0:
            raise TooLate(f"There was no time left to ask {subject}.")
        if not self.connected:
            timeout = await self._link.wait_up(timeout)

        def send(reply: str) -> None:
            if self._send(subject, data, reply) == 0:
                asyncio.get_running_loop().call_soon(self._asks.nobody, reply.rpartition(".")[2])

        return await self._asks.run(subject, timeout, on_chunk, send)

    async def subscribe(self, subject: str, handler: Handler) -> MemorySubscription:
        """Raises Refused, too, when this name has no right to `subject`."""
        check_pattern(subject)
        self._link.require_open()
        if not self._permissions.may_subscribe(subject):
            count(self.counters, "violations", "The bus refused %s: subscription to %s", self.name, subject)
            raise Refused(f"{self.name} may not listen on {subject}.", reason="permission")
        await self._link.wait_up()
        door = Door(self.name, handler, self.counters, self._answer)
        listener = (subject, door.enter)
        self._listeners.append(listener)
        return MemorySubscription(self, door, listener)

    async def drain(self, timeout: float) -> None:
        if self._link.ended.is_set():
            return
        self._listeners.clear()
        while self._inbound:
            self._deliver()
        self._end()

    async def close(self) -> None:
        self._end()

    async def wait_closed(self) -> None:
        await self._link.ended.wait()

    # what the broker does with it

    def _take(self, subject: str, data: bytes, reply: str | None) -> int:
        if not self.connected:
            return 0
        found = [receiver for pattern, receiver in self._listeners if covers(pattern, subject)]
        if found and reply is not None and self._permissions.responses is not None:
            most, seconds = self._permissions.responses
            self._answerable[reply] = [most, time.monotonic() + seconds]
        self._inbound.extend((receiver, subject, data, reply) for receiver in found)
        if self._inbound and not self._delivering:
            self._delivering = True
            asyncio.get_running_loop().call_soon(self._deliver)
        return len(found)

    def _deliver(self) -> None:
        """Hand out what is there now; what comes meanwhile waits for the next turn of the loop."""
        for _ in range(len(self._inbound)):
            if not self._inbound:  # a handler has ended this bus
                break
            receiver, subject, data, reply = self._inbound.popleft()
            receiver(subject, data, reply)
        self._delivering = bool(self._inbound)
        if self._delivering:
            asyncio.get_running_loop().call_soon(self._deliver)

    def _set_connected(self, connected: bool) -> None:
        if self._link.ended.is_set() or connected == self.connected:
            return
        if connected:
            self.counters["reconnects"] += 1
            self._link.regain()
        else:
            self._inbound.clear()
            self._link.lose()

    def _end(self) -> None:
        if self._link.ended.is_set():
            return
        self._broker._forget(self)
        self._listeners.clear()
        self._inbound.clear()
        self._link.end()
        self._asks.end(self._link.gone())

    # the rest

    def _send(self, subject: str, data: bytes, reply: str | None) -> int:
        """How many get it; -1 when it was refused or could not be sent, which is not "nobody"."""
        if not self.connected:
            count(
                self.counters, "dropped", "%s is not connected; dropped a message to %s", self.name, subject
            )
            return -1
        if not self._permissions.may_publish(subject) and not self._may_answer(subject):
            count(self.counters, "violations", "The bus refused %s: publish to %s", self.name, subject)
            refusal = Refused(f"{self.name} may not publish on {subject}.", reason="permission")
            asyncio.get_running_loop().call_soon(self._asks.refused, subject, refusal)
            return -1
        return self._broker._carry(subject, data, reply)

    def _may_answer(self, subject: str) -> bool:
        allowance = self._answerable.get(subject)
        if allowance is None:
            return False
        allowance[0] -= 1
        if allowance[0] < 0 or allowance[1] < time.monotonic():
            del self._answerable[subject]
            return False
        return True

    def _answered(self, subject: str, data: bytes, _reply: str | None) -> None:
        self._asks.answered(subject[len(self._asks.prefix) :], data)

    def _answer(self, reply: str, envelope: Envelope) -> None:
        self._send(check_subject(reply), encode(envelope), None)


class MemorySubscription:
    def __init__(self, bus: MemoryBus, door: Door, listener: tuple[str, Receiver]) -> None:
        self._bus = bus
        self._door = door
        self._listener = listener

    async def stop(self) -> None:
        """No further calls of the handler once this returns. Stopping twice is fine."""
        self._door.closed = True
        if self._listener in self._bus._listeners:
            self._bus._listeners.remove(self._listener)
