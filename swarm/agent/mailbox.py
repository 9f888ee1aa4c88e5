"""The mailbox: what comes down to this instance, one turn at a time in each room, rooms in parallel up to a bound.

What is done with a message is `handling.py`'s. No message is discarded because a newer one arrived (B14).
A delivery of the ledger is in hand from its arrival until its turn has committed; a second copy of it
meanwhile is ignored, and one that cannot be committed yet is handed back. An ask that is late is not begun.
While the breaker is open asks are refused at once, those that queue behind others too; deliveries wait.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter, deque
from collections.abc import Awaitable, Coroutine, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from bus.bus import Bus, Incoming
from bus.envelope import Envelope
from bus.errors import BusError, NobodyThere, Refused
from swarm.agent.bell import BellRope
from swarm.agent.critical import answer_instead
from swarm.agent.hand import Status
from swarm.agent.handling import handle_ask, handle_delivery, handle_word
from swarm.agent.replies import Answer
from swarm.failpoints import reached

if TYPE_CHECKING:
    from swarm.agent.runtime import AgentRuntime

log = logging.getLogger(__name__)

CLEANUP_SECONDS: Final = 10.0
"""How long a cancelled handler may clean up before it is cancelled again."""


@dataclass(slots=True)
class Work:
    """One message in hand. `running` is set while its turn runs, in `turn` when it is a task's."""

    envelope: Envelope
    reply: str | None
    running: bool = False
    turn: asyncio.Task[Status] | None = None
    canceled: str | None = None
    canceled_at: float = -1e9


class Mailbox:
    """`receive` is the bus's handler. `group` owns the rooms' tasks; `drain` ends the work in good order."""

    def __init__(
        self,
        runtime: AgentRuntime,
        bus: Bus,
        bell: BellRope,
        group: asyncio.TaskGroup,
        *,
        rooms_at_once: int,
        capacity: int,
    ) -> None:
        self._runtime = runtime
        self._bus = bus
        self._bell = bell
        self._group = group
        self._capacity = capacity
        self._slots = asyncio.Semaphore(rooms_at_once)
        self._rooms: dict[str, deque[Work]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._resting: set[asyncio.Task[Any]] = set()
        self._deliveries: dict[int, Work] = {}
        self._queued = 0
        self._running = 0
        self._draining = False
        self._idle = asyncio.Event()
        self._idle.set()
        self.refused: Counter[str] = Counter()
        runtime.recovery.breaker.on_open = self._refuse_queued_asks

    @property
    def in_flight(self) -> tuple[int, ...]:
        """The deliveries in hand."""
        return tuple(self._deliveries)

    @property
    def running(self) -> int:
        return self._running

    @property
    def queued(self) -> int:
        return self._queued

    # ── at the door ───────────────────────────────────────────────────────────────────────────────
    def receive(self, incoming: Incoming) -> None:
        """Take a message in, or refuse it: what is late, foreign, not for an agent, or too much."""
        envelope = incoming.envelope
        if envelope.delivery is not None and envelope.delivery in self._deliveries:
            return
        reached("agent.receive")
        if envelope.kind in ("result", "notice") and envelope.delivery is not None:
            self._take(Work(envelope, None), f"{envelope.kind}:{envelope.id}", unbounded=True)
        elif envelope.kind in ("tell", "announce", "task") and envelope.delivery is not None:
            if self._draining:
                self._bell.pull(returned=[envelope.delivery])
            else:
                self._take(Work(envelope, None), envelope.room)
        elif envelope.kind == "ask" and incoming.reply is not None:
            self._receive_ask(envelope, incoming.reply)
        else:
            self.refused["foreign"] += 1
            log.warning("refused a %s that is not for an agent at %s", envelope.kind, incoming.subject)

    def _receive_ask(self, envelope: Envelope, reply: str) -> None:
        left = envelope.seconds_left()
        if left is not None and left <= 0:
            self.refused["late"] += 1
        elif self._draining:
            self._answer_soon(reply, envelope, NobodyThere("This instance is stopping.", reason="draining"))
        elif self._queued >= self._capacity:
            self.refused["busy"] += 1
            text = f"{self._runtime.name} has {self._queued} messages waiting; ask again later, or tell it."
            self._answer_soon(reply, envelope, Refused(text, reason="busy"))
        elif not self._runtime.recovery.breaker.lets_in:
            self._refuse_by_breaker(reply, envelope)
        else:
            self._take(Work(envelope, reply), envelope.room)

    def _take(self, work: Work, room: str, *, unbounded: bool = False) -> None:
        if work.envelope.delivery is not None:
            self._deliveries[work.envelope.delivery] = work
        self._queued += 1
        self._idle.clear()
        queue = self._rooms.get(room)
        if queue is not None:
            queue.append(work)
            return
        self._rooms[room] = deque([work])
        self._own(self._work_room(room, unbounded))

    # ── a room ────────────────────────────────────────────────────────────────────────────────────
    async def _work_room(self, room: str, unbounded: bool) -> None:
        queue = self._rooms[room]
        try:
            while queue:
                if unbounded:
                    # Results wake turns that hold a place; waiting for a place here could wait for ever.
                    await self._one(queue.popleft())
                    continue
                async with self._slots:
                    if queue:
                        await self._one(queue.popleft())
        finally:
            del self._rooms[room]
            self._settle()

    async def _one(self, work: Work) -> None:
        self._queued -= 1
        self._running += 1
        work.running = True
        try:
            if work.reply is not None:
                await self._handle_ask(work, work.reply)
            else:
                await self._handle_delivery(work)
        except BaseException:
            if work.envelope.delivery is not None:
                self._hand_back(work)
            raise
        finally:
            self._running -= 1

    async def _handle_ask(self, work: Work, reply: str) -> None:
        left = work.envelope.seconds_left()
        if left is not None and left <= 0:
            self.refused["late"] += 1
            return
        answer = Answer(self._bus, self._runtime.name, work.envelope, reply)
        await handle_ask(self._runtime, work.envelope, answer, self._rest)

    async def _handle_delivery(self, work: Work) -> None:
        envelope = work.envelope
        assert envelope.delivery is not None
        if envelope.kind == "task":
            status = await self._handle_task(work)
        else:
            handle = handle_word if envelope.kind in ("result", "notice") else handle_delivery
            status = await handle(self._runtime, envelope, self._rest)
        if status == "out_of_order":
            self._hand_back(work)
            return
        del self._deliveries[envelope.delivery]
        self._bell.pull(done=[envelope.delivery])

    async def _handle_task(self, work: Work) -> Status:
        """A task's turn is a task of its own, so that it can be cancelled without its room. What the ledger has
        ended writes nothing any more, wherever the cancelling meets it: also in its commit."""
        async with asyncio.TaskGroup() as group:
            work.turn = group.create_task(handle_delivery(self._runtime, work.envelope, self._rest))
        if not work.turn.cancelled():
            return work.turn.result()
        if work.canceled is None:
            raise asyncio.CancelledError
        log.info("task %s is over: %s", work.envelope.room, work.canceled)
        await self._runtime.events.emit(
            "task:canceled", task=work.envelope.room.removeprefix("task:"), reason=work.canceled
        )
        return "stale"

    def cancel(self, deliveries: Iterable[int], reason: str) -> None:
        """The ledger has ended these: what waits is dropped, what runs is cancelled, with time to clean up in. Said
        again, it cancels again what took longer than that."""
        now = asyncio.get_running_loop().time()
        for delivery in deliveries:
            work = self._deliveries.get(delivery)
            if work is None:
                self._bell.pull(done=[delivery])
            elif not work.running:
                self._rooms[work.envelope.room].remove(work)
                self._queued -= 1
                del self._deliveries[delivery]
                self._bell.pull(done=[delivery])
                self._settle()
            elif work.turn is not None and now - work.canceled_at > CLEANUP_SECONDS:
                work.canceled, work.canceled_at = reason, now
                work.turn.cancel()

    async def _rest(self, wait: Awaitable[Any]) -> None:
        """Wait between tries, for the store or the breaker. A drain ends it: the work is handed back."""
        task = asyncio.current_task()
        assert task is not None
        self._resting.add(task)
        if self._draining:
            task.cancel()
        try:
            await wait
        finally:
            self._resting.discard(task)

    def _hand_back(self, work: Work) -> None:
        delivery = work.envelope.delivery
        if delivery is not None and self._deliveries.pop(delivery, None) is not None:
            self._bell.pull(returned=[delivery])

    def _refuse_queued_asks(self) -> None:
        """The breaker has opened: what can fail fast does, also behind a delivery that waits."""
        for queue in self._rooms.values():
            for work in [one for one in queue if one.reply is not None]:
                queue.remove(work)
                self._queued -= 1
                self._refuse_by_breaker(work.reply or "", work.envelope)

    def _refuse_by_breaker(self, reply: str, ask: Envelope) -> None:
        self.refused["breaker_open"] += 1
        answer = Answer(self._bus, self._runtime.name, ask, reply)
        self._own(answer_instead(self._runtime, answer, self._runtime.recovery.refusal()))

    def _answer_soon(self, reply: str, ask: Envelope, error: BusError) -> None:
        self._own(Answer(self._bus, self._runtime.name, ask, reply).fail(error))

    # ── the end ───────────────────────────────────────────────────────────────────────────────────
    async def drain(self, seconds: float) -> bool:
        """Take nothing new, hand back what was not begun, wait for what runs; cancel and hand back what is
        late. What only waits, for the store or another try, is handed back at once. True when nothing that
        ran had to be cancelled."""
        self._draining = True
        asks: list[Answer] = []
        for queue in self._rooms.values():
            for work in list(queue):
                if work.envelope.kind in ("result", "notice"):
                    continue  # a running turn may wait for it
                queue.remove(work)
                self._queued -= 1
                if work.reply is not None:
                    asks.append(Answer(self._bus, self._runtime.name, work.envelope, work.reply))
                self._hand_back(work)
        self._settle()
        for task in tuple(self._resting):
            task.cancel()
        for ask in asks:
            await ask.fail(NobodyThere("This instance is stopping.", reason="draining"))
        try:
            async with asyncio.timeout(seconds):
                await self._idle.wait()
            return True
        except TimeoutError:
            log.warning("%d turns did not end within %g s and are cancelled", self._running, seconds)
            for task in tuple(self._tasks):
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)
            return False

    def _settle(self) -> None:
        if not self._running and not self._queued:
            self._idle.set()

    def _own(self, work: Coroutine[None, None, None]) -> None:
        task = self._group.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
