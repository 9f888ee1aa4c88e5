"""The agent itself, when it is alone: a runtime behind a mailbox, on a bus in memory that has one other end.

The mailbox is the one that every instance has, so a room has one turn at a time, a retry, a breaker and a fallback
are what they are in a swarm, and a drain is a drain. Nobody is told of a hello or a beat: there is nobody.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Callable
from typing import Final, Literal

from bus.buses.memory import MemoryBroker
from bus.envelope import Envelope, pack, read_body
from bus.errors import NobodyThere
from bus.subjects import Subjects
from deploy.alone.question import Question
from deploy.alone.settings import RunSettings
from deploy.alone.store import store_of
from swarm.agent.bell import BellRope
from swarm.agent.instance import Stop, drain
from swarm.agent.mailbox import Mailbox
from swarm.agent.pushing import pushing, resource_of
from swarm.agent.runtime import AgentRuntime
from swarm.character import Character
from swarm.ids import new_id
from swarm.metrics.pushing import Push
from swarm.pieces import Piece, PieceReader
from swarm.records import RESERVED_NAMES, Content
from swarm.tracing.exporting import TraceExport, tracer_of, tracing

State = Literal["starting", "ready", "draining"]
ASKER: Final = "http"
ROOMS_AT_ONCE: Final = 16
CAPACITY: Final = 64
"""As an instance of a swarm has unless its file says otherwise."""


class Alone:
    """`start`, any number of `ask`, `drain`, `end`. `state` says which of them it is at."""

    def __init__(self, character: Character, settings: RunSettings) -> None:
        self.name = name_of(character)
        self.character = character
        self.state: State = "starting"
        self.runtime: AgentRuntime | None = None
        """None until the store is open."""
        self.mailbox: Mailbox | None = None
        self._settings = settings
        self._swarm = f"alone_{self.name}"
        self._instance = f"1-{new_id()[-6:]}"
        self._subject = Subjects(self._swarm).down(self.name, self._instance)
        broker = MemoryBroker()
        self._bus = broker.connect(self.name)
        self._asker = broker.connect(ASKER)
        self._open = 0
        self._idle = asyncio.Event()
        self._idle.set()
        self._telemetry: list[Push | TraceExport] = []
        self._sending: list[asyncio.Task[None]] = []

    async def start(self, group: asyncio.TaskGroup) -> None:
        """Open the store, load the plugins, take messages in. `group` owns what goes on. Raises SwarmError; nothing
        of the agent is left then."""
        self.runtime = runtime = await self._runtime()
        traces = tracing(runtime.get_setting, resource_of(runtime))
        runtime.trace_with(tracer_of(traces))
        await runtime.initialize()
        bell = BellRope(self._bus, Subjects(self._swarm), self._instance)  # nobody hears it, nobody need
        self.mailbox = Mailbox(
            runtime, self._bus, bell, group, rooms_at_once=ROOMS_AT_ONCE, capacity=CAPACITY
        )
        await self._bus.subscribe(self._subject, self.mailbox.receive)
        self._telemetry = [one for one in (pushing(runtime, self.mailbox), traces) if one is not None]
        self._sending = [group.create_task(one.run()) for one in self._telemetry]
        self.state = "ready"

    async def _runtime(self) -> AgentRuntime:
        told = self._settings
        if told.edge:
            from swarm.agent.edge import edge_runtime

            file = told.store_url.partition(":")[0].lower() == "sqlite"
            return edge_runtime(
                self.character,
                None if file else await store_of(told.store_url, self._swarm, self.name, self.character),
                settings={"EDGE_STORE": told.store_url, **told.environment} if file else told.environment,
                name=self.name,
                instance=self._instance,
                folder=told.folder,
            )
        return AgentRuntime(
            self.character,
            await store_of(told.store_url, self._swarm, self.name, self.character),
            settings=told.environment,
            name=self.name,
            instance=self._instance,
            folder=told.folder,
        )

    async def ask(self, question: Question, on_piece: Callable[[Piece], None] | None = None) -> Content:
        """The answer, its pieces as they are made. Raises BusError: NobodyThere while it starts or drains, TooLate,
        Refused, Failed, BadMessage for what is too large."""
        if self.state != "ready":
            raise NobodyThere(f"The agent is {self.state}; try again in a moment.", reason=self.state)
        envelope = Envelope(
            id=question.id,
            sender=question.sender,
            to=self.name,
            room=question.room,
            kind="ask",
            body=pack(question.content),
            deadline=int((time.time() + question.timeout) * 1000),
        )
        reader = PieceReader()

        def take(chunk: Envelope) -> None:
            piece = reader.take(read_body(chunk, Content))
            if piece is not None and on_piece is not None:
                on_piece(piece)

        self._open += 1
        self._idle.clear()
        try:
            reply = await self._asker.request(
                self._subject, envelope, timeout=question.timeout, on_chunk=take if on_piece else None
            )
            return read_body(reply, Content)
        finally:
            self._open -= 1
            if not self._open:
                self._idle.set()

    async def drain(self, stop: Stop, seconds: float) -> bool:
        """Take nothing new and finish what was asked, also what still queues: nobody else will answer it. False when
        something had to be cancelled, at the deadline or because a second signal hurried."""
        self.state = "draining"
        if self.mailbox is None:
            return True
        ends = time.monotonic() + seconds
        async with asyncio.TaskGroup() as group:
            waits = [group.create_task(self._idle.wait()), group.create_task(stop.hurry.wait())]
            await asyncio.wait(waits, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
            for wait in waits:
                wait.cancel()
        return await drain(self.mailbox, stop, max(0.0, ends - time.monotonic()))

    async def end(self, stop: Stop) -> None:
        """The last of metrics and spans, then plugins, services and the store, in this order."""
        for task in self._sending:
            task.cancel()
        for one in self._telemetry if not stop.hurry.is_set() else ():
            await one.last()
        if self.runtime is not None:
            await self.runtime.stop()
        await self._bus.close()
        await self._asker.close()


def name_of(character: Character) -> str:
    """The agent's name as one word of letters, digits, _ and -, which a bus and a registry take."""
    tame = re.sub(r"[^A-Za-z0-9_-]", "_", character.username)[:60] or "agent"
    return f"{tame}_1" if tame in RESERVED_NAMES else tame
