"""The mailbox: what comes down to this instance, one turn at a time in each room, rooms in parallel up to a bound.

No message is discarded because a newer one arrived (B14). A delivery of the ledger is in hand from its
arrival until its turn has committed; a second copy of it meanwhile is ignored, and one that cannot be
committed yet is handed back. An ask that is late is not begun.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter, deque
from collections.abc import Coroutine
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import msgspec

from bus.bus import Bus, Incoming
from bus.envelope import Envelope, error_body, pack, read_body
from bus.errors import BadMessage, BusError, Failed, NobodyThere, Refused, TooLate
from swarm.agent.bell import BellRope
from swarm.agent.hand import Say, Status, say_nothing
from swarm.components import Message
from swarm.errors import StoreDown, StoreError, SwarmError, Unknown
from swarm.ids import new_id
from swarm.records import OPERATOR, Content, Turn

if TYPE_CHECKING:
    from swarm.agent.runtime import AgentRuntime

log = logging.getLogger(__name__)

TRIES: Final = 3
"""How often a turn is tried that fails by something other than its plugins."""


@dataclass(slots=True)
class Work:
    """One message in hand. `running` is set while its turn runs."""

    envelope: Envelope
    reply: str | None
    running: bool = False


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
        self._deliveries: dict[int, Work] = {}
        self._queued = 0
        self._running = 0
        self._draining = False
        self._idle = asyncio.Event()
        self._idle.set()
        self.refused: Counter[str] = Counter()

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
            if work.envelope.kind == "ask":
                await self._handle_ask(work)
            else:
                await self._handle_delivery(work)
        except BaseException:
            if work.envelope.delivery is not None:
                self._hand_back(work)
            raise
        finally:
            self._running -= 1

    async def _handle_ask(self, work: Work) -> None:
        """One reply or one error, by the deadline; after it, nothing."""
        envelope, reply = work.envelope, work.reply or ""
        left = envelope.seconds_left()
        if left is not None and left <= 0:
            self.refused["late"] += 1
            return
        try:
            message = _message(envelope)
            async with asyncio.timeout(left):
                result = await self._runtime.process_message(message, say=self._sayer(reply, envelope))
            if result.status == "rejected":
                raise Refused(result.error or "Rejected by a plugin.", reason="rejected")
            await self._answer(reply, envelope, "reply", result.response or Content())
        except TimeoutError:
            error = TooLate(f"{self._runtime.name} did not finish in time.")
            await self._answer(reply, envelope, "error", error)
        except BusError as error:
            await self._answer(reply, envelope, "error", error)
        except SwarmError as error:
            await self._answer(reply, envelope, "error", Failed(str(error), reason=error.reason))
        except Exception as error:
            log.exception("the turn for ask %s failed", envelope.id)
            sentence = f"{self._runtime.name} failed: {type(error).__name__}."
            await self._answer(reply, envelope, "error", Failed(sentence, reason="exception"))

    async def _handle_delivery(self, work: Work) -> None:
        envelope = work.envelope
        assert envelope.delivery is not None
        status = await self._persist(work)
        if status == "out_of_order":
            self._hand_back(work)
            return
        del self._deliveries[envelope.delivery]
        self._bell.pull(done=[envelope.delivery])

    async def _persist(self, work: Work) -> Status:
        """Run the turn until the ledger has its end: a store that is down is waited for; what fails
        otherwise is tried again with 2 and 4 s between, then dies with its reason."""
        envelope, tries, wait = work.envelope, 0, 0.1
        while True:
            try:
                if envelope.kind in ("result", "notice"):
                    return await self._note(envelope)
                message = _message(envelope)
                return (await self._runtime.process_message(message, delivery=envelope.delivery)).status
            except (StoreDown, Unknown) as error:
                log.warning("the store is not there (%s); message %s waits", error, envelope.id)
                await asyncio.sleep(wait)
                wait = min(wait * 2, 5.0)
            except (BadMessage, StoreError) as error:
                return await self._bury(envelope, str(error))
            except Exception as error:
                tries += 1
                log.exception("turn %d of %d for message %s failed", tries, TRIES, envelope.id)
                if tries >= TRIES:
                    return await self._bury(envelope, f"{type(error).__name__}: {error}")
                await asyncio.sleep(2.0**tries)

    async def _note(self, envelope: Envelope) -> Status:
        """The ledger's own words to us: they start no turn, only wake who waits."""
        content = read_body(envelope, Content)
        status = await self._end(envelope)
        if envelope.kind == "result":
            task = str(content.data.get("task") or "")
            self._runtime.peers.task_ended(task)
            await self._runtime.events.emit("task:result", task=task, state=content.data.get("state"))
        else:
            log.warning("notice: %s", content.text)
            await self._runtime.events.emit("message:notice", message=content)
        return status

    async def _bury(self, envelope: Envelope, reason: str) -> Status:
        """The message becomes a dead letter with its reason; its sender gets a notice."""
        log.error("message %s is given up: %s", envelope.id, reason)
        return await self._end(envelope, dead=reason[:1000])

    async def _end(self, envelope: Envelope, *, dead: str | None = None) -> Status:
        """End a delivery without a turn."""
        committed = await self._runtime.adapter.commit(
            Turn(
                delivery=envelope.delivery,
                attempt=envelope.attempt,
                instance=self._runtime.instance,
                dead=dead,
            )
        )
        return "handled" if committed.status == "committed" else committed.status

    def _hand_back(self, work: Work) -> None:
        delivery = work.envelope.delivery
        if delivery is not None and self._deliveries.pop(delivery, None) is not None:
            self._bell.pull(returned=[delivery])

    # ── answers ───────────────────────────────────────────────────────────────────────────────────
    def _sayer(self, reply: str, ask: Envelope) -> Say:
        async def say(content: Content) -> None:
            await self._answer(reply, ask, "chunk", content)

        return say if reply else say_nothing

    async def _answer(self, reply: str, ask: Envelope, kind: str, what: Content | BusError) -> None:
        body = error_body(what) if isinstance(what, BusError) else pack(what)
        envelope = Envelope(
            id=new_id(),
            sender=self._runtime.name,
            to=ask.sender,
            room=ask.room,
            kind=kind,  # type: ignore[arg-type]
            body=body,
            in_reply_to=ask.id,
            hops=ask.hops,
        )
        try:
            await self._bus.publish(reply, envelope)
        except BadMessage as error:  # the answer is larger than a message may be
            if kind == "reply":
                await self._answer(reply, ask, "error", Failed(str(error), reason=error.reason))
        except BusError as error:
            log.warning("the answer to %s was not sent: %s", ask.id, error)

    def _answer_soon(self, reply: str, ask: Envelope, error: BusError) -> None:
        self._own(self._answer(reply, ask, "error", error))

    # ── the end ───────────────────────────────────────────────────────────────────────────────────
    async def drain(self, seconds: float) -> bool:
        """Take nothing new, hand back what was not begun, wait for what runs; cancel and hand back what is
        late. True when nothing had to be cancelled."""
        self._draining = True
        for queue in self._rooms.values():
            for work in list(queue):
                if work.envelope.kind in ("result", "notice"):
                    continue  # a running turn may wait for it
                queue.remove(work)
                self._queued -= 1
                if work.reply is not None:
                    stopping = NobodyThere("This instance is stopping.", reason="draining")
                    await self._answer(work.reply, work.envelope, "error", stopping)
                self._hand_back(work)
        self._settle()
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


def _message(envelope: Envelope) -> Message:
    """The envelope as a turn sees it. Raises BadMessage when its body is not content."""
    return Message(
        id=envelope.id,
        sender=envelope.sender,
        room=envelope.room,
        kind=envelope.kind,
        content=_marked(envelope),
        received_at=int(time.time() * 1000),
        in_reply_to=envelope.in_reply_to,
        hops=envelope.hops,
        traceparent=envelope.traceparent,
        task=envelope.id if envelope.kind == "task" else None,
        attempt=envelope.attempt,
    )


def _marked(envelope: Envelope) -> Content:
    """The content, saying when it comes from another agent (F2, F4); its own metadata is kept."""
    content = read_body(envelope, Content)
    if envelope.sender.startswith(OPERATOR):
        return content
    marks: dict[str, Any] = {"from_agent": envelope.sender, "inter_agent": True}
    if envelope.kind == "announce":
        marks["broadcast"] = True
    return msgspec.structs.replace(content, metadata={**content.metadata, **marks})
