"""Both buses behind one face, so that one suite holds both to the contract."""

from __future__ import annotations

import uuid
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import nats
import pytest
from nats.aio.client import RawCredentials

from bus.buses.memory import MemoryBroker, MemoryBus
from bus.buses.nats import NatsBus, connect
from bus.credentials import Authority
from bus.envelope import Envelope, Kind, pack
from bus.permissions import permissions_of, role_of_name
from bus.subjects import Subjects
from tests.servers import NatsServer

AnyBus = NatsBus | MemoryBus


def envelope(kind: Kind = "ask", body: object = None, sender: str = "asker", **more: Any) -> Envelope:
    return Envelope(
        id=uuid.uuid4().hex, sender=sender, to="someone", room="room", kind=kind, body=pack(body), **more
    )


class Wire(ABC):
    """A swarm's wire with the real permissions of each role: ``asker``, ``coordinator``, ``operator-x`` …"""

    subjects = Subjects("t")

    def __init__(self) -> None:
        self.buses: list[AnyBus] = []

    async def connect(self, name: str, on_state: Callable[[bool], None] | None = None) -> AnyBus:
        bus = await self._connect(name, on_state)
        self.buses.append(bus)
        return bus

    @abstractmethod
    async def _connect(self, name: str, on_state: Callable[[bool], None] | None) -> AnyBus: ...

    @abstractmethod
    async def raw(self, name: str, subject: str, data: bytes, reply: str | None = None) -> None:
        """`name` sends bytes that no bus of ours would send."""

    @abstractmethod
    async def cut(self) -> None:
        """Nobody reaches anybody until `heal`."""

    @abstractmethod
    async def heal(self) -> None: ...

    async def end(self) -> None:
        for bus in self.buses:
            await bus.close()


class MemoryWire(Wire):
    def __init__(self) -> None:
        super().__init__()
        self.broker = MemoryBroker()

    async def _connect(self, name: str, on_state: Callable[[bool], None] | None) -> AnyBus:
        role = role_of_name(name)
        assert role is not None
        return self.broker.connect(name, permissions_of(role, self.subjects, name), on_state=on_state)

    async def raw(self, name: str, subject: str, data: bytes, reply: str | None = None) -> None:
        self.broker._carry(subject, data, reply)

    async def cut(self) -> None:
        for bus in self.buses:
            self.broker.cut(bus.name)

    async def heal(self) -> None:
        for bus in self.buses:
            self.broker.heal(bus.name)


class NatsWire(Wire):
    def __init__(self, server: NatsServer) -> None:
        super().__init__()
        self.server = server
        self.authority = Authority.new("t")
        server.start(self.authority.server_config(port=server.port))

    async def _connect(self, name: str, on_state: Callable[[bool], None] | None) -> AnyBus:
        role = role_of_name(name)
        assert role is not None
        return await connect(self.server.url, self.authority.mint(role, name), on_state=on_state)

    async def raw(self, name: str, subject: str, data: bytes, reply: str | None = None) -> None:
        credentials = self.authority.mint(role_of_name(name) or "agent", name)
        client = await nats.connect(self.server.url, user_credentials=RawCredentials(credentials.to_text()))
        await client.publish(subject, data, reply or "")
        await client.close()

    async def cut(self) -> None:
        self.server.kill()

    async def heal(self) -> None:
        self.server.start(self.authority.server_config(port=self.server.port))

    async def end(self) -> None:
        await super().end()
        self.server.kill()


@pytest.fixture(params=["memory", "nats"])
async def wire(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Wire]:
    made = MemoryWire() if request.param == "memory" else NatsWire(NatsServer(tmp_path))
    try:
        yield made
    finally:
        await made.end()


@pytest.fixture
async def nats_wire(tmp_path: Path) -> AsyncIterator[NatsWire]:
    made = NatsWire(NatsServer(tmp_path))
    try:
        yield made
    finally:
        await made.end()
