"""How an agent speaks with others: ask, tell, announce, delegate.

In a turn, a tell and an announcement join what the turn commits: they are sent if, and only if, its
other effects are. An ask and a delegation are for now, so they go out at once; a delegation's id comes
from the message in hand and a key, so that a turn which is run again finds the task it gave before.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import islice
from typing import TYPE_CHECKING, Any, Final, Unpack

import msgspec

from bus.bus import Bus
from bus.envelope import MAX_HOPS, Envelope, pack
from bus.errors import NobodyThere, Refused
from bus.subjects import Subjects
from swarm.agent.asking import ask_on
from swarm.agent.bell import BellRope
from swarm.agent.children import CHILD_SECONDS, Child, Children
from swarm.agent.hand import TurnInHand, current_turn
from swarm.agent.hearing import OnPiece
from swarm.agent.storable import storable_content
from swarm.failpoints import reached
from swarm.ids import is_uuid, new_id, string_to_uuid
from swarm.records import (
    TERMINAL_TASK_STATES,
    Content,
    LedgerKind,
    NewTask,
    Outgoing,
    Receipt,
    Task,
)
from swarm.tracing.tracer import current_traceparent

if TYPE_CHECKING:
    from swarm.agent.runtime import AgentRuntime
    from swarm.spawning import ChildOptions, Source

log = logging.getLogger(__name__)

ASK_SECONDS: Final = 30.0


class Job(msgspec.Struct, frozen=True):
    """One piece of work to delegate. `key` names it within the message in hand; `deadline` in seconds."""

    key: str
    goal: str
    input: dict[str, Any] = {}
    deadline: float | None = None


class TaskHandle:
    """A task that was accepted. `task` is how it stood when last looked at."""

    def __init__(self, peers: Peers, task: Task) -> None:
        self._peers = peers
        self.task = task
        self.id = task.id

    async def result(self, timeout: float | None = None) -> Task:
        """Wait for the task's end, at most `timeout` seconds (TimeoutError), and return it."""
        ended = self._peers.ending_of(self.id)
        try:
            self.task = await self._peers.look(self.id) or self.task
            if self.task.state not in TERMINAL_TASK_STATES:
                async with asyncio.timeout(timeout):
                    await ended.wait()
                self.task = await self._peers.look(self.id) or self.task
            return self.task
        finally:
            self._peers.forget(self.id, ended)


class Peers:
    """The other agents, as this one may reach them. `connect` gives it the wire."""

    def __init__(self, runtime: AgentRuntime) -> None:
        self._runtime = runtime
        self._bus: Bus | None = None
        self._subjects: Subjects | None = None
        self._bell: BellRope | None = None
        self._endings: dict[str, list[asyncio.Event]] = {}
        self._children = Children(runtime.name)

    def connect(self, bus: Bus, subjects: Subjects, bell: BellRope) -> None:
        self._bus, self._subjects, self._bell = bus, subjects, bell
        self._children.connect(bus, subjects)

    @property
    def connected(self) -> bool | None:
        """Whether the bus's server can be reached at this moment; None for an agent that runs alone."""
        return None if self._bus is None else self._bus.connected

    # ── the four verbs ────────────────────────────────────────────────────────────────────────────
    async def ask(
        self,
        to: str,
        text: str = "",
        *,
        data: Mapping[str, Any] | None = None,
        room: str | None = None,
        timeout: float = ASK_SECONDS,
        on_chunk: OnPiece | None = None,
    ) -> Content:
        """One reply by the deadline (seconds), or NobodyThere, TooLate, Refused, Failed. Nothing durable.
        `on_chunk` gets the answer's pieces as they are made, in order, all of them before this returns; where
        `restarted` is set, the message is tried again, and what came before is void."""
        if self._bus is None or self._subjects is None:
            raise NobodyThere(f"Agent {self._runtime.name} runs alone; it has no peers to ask.")
        turn = self._turn()
        envelope = Envelope(
            id=new_id(),
            sender=self._runtime.name,
            to=to,
            room=room or _direct(self._runtime.name, to),
            kind="ask",
            body=pack(Content(text=text, data=dict(data or {}))),
            deadline=int((time.time() + timeout) * 1000),
            hops=turn.message.hops + 1 if turn else 0,
            origin=_origin(turn),
            traceparent=current_traceparent(),
        )
        subject = self._subjects.up(self._runtime.name, "ask")
        tracer = self._runtime.tracer
        with self._counting_refusals():
            return await ask_on(self._bus, subject, envelope, tracer, timeout=timeout, on_chunk=on_chunk)

    async def tell(
        self,
        to: str,
        text: str = "",
        *,
        data: Mapping[str, Any] | None = None,
        room: str | None = None,
        ttl: float | None = None,
    ) -> Receipt:
        """Accepted means handled once, in order, even if `to` is away. Raises UnknownAgent with near names.
        `ttl` in seconds; past it the message expires and this agent gets a notice."""
        return await self._send("tell", to, text, data, room or _direct(self._runtime.name, to), ttl)

    async def announce(self, text: str, *, data: Mapping[str, Any] | None = None, to: str = "all") -> Receipt:
        """A tell to everyone but this agent. Recipients are fixed when it is accepted."""
        return await self._send("announce", to, text, data, f"announce:{self._runtime.name}", None)

    async def delegate(
        self,
        child: str,
        goal: str,
        *,
        input: Mapping[str, Any] | None = None,
        deadline: float | None = None,
        key: str | None = None,
    ) -> TaskHandle:
        """Give a child a task, now. Raises NoAuthority, UnknownAgent. `deadline` in seconds from now;
        `key` makes it idempotent within the message in hand."""
        job = Job(key or "", goal, dict(input or {}), deadline)
        return (await self._delegate(child, [job]))[0]

    async def delegate_all(
        self, child: str, jobs: Iterable[Job], *, in_flight: int = 8
    ) -> AsyncIterator[Task]:
        """Delegate every job, at most `in_flight` at a time, and yield each task as it ends."""
        waiting = iter(jobs)
        ended: asyncio.Queue[str] = asyncio.Queue()
        open_: dict[str, _Ending] = {}

        async def give_more() -> list[Task]:
            """Fill the places; returns the tasks that had ended before, in an earlier run of this turn."""
            batch = list(islice(waiting, in_flight - len(open_)))
            over: list[Task] = []
            for handle in await self._delegate(child, batch) if batch else ():
                if handle.task.state in TERMINAL_TASK_STATES:
                    over.append(handle.task)
                else:
                    open_[handle.id] = _Ending(handle.id, ended)
                    self._endings.setdefault(handle.id, []).append(open_[handle.id])
            # It may have ended between its acceptance and our listening.
            for task in await self._runtime.adapter.get_tasks(list(open_)) if batch else ():
                if task.state in TERMINAL_TASK_STATES:
                    open_[task.id].set()
            return over

        try:
            while True:
                over = await give_more()
                for task in over:
                    yield task
                if over:
                    continue
                if not open_:
                    return
                done = {await ended.get()}
                while not ended.empty():
                    done.add(ended.get_nowait())
                done &= open_.keys()
                for task in await self._runtime.adapter.get_tasks(sorted(done)):
                    if task.state in TERMINAL_TASK_STATES:
                        self.forget(task.id, open_.pop(task.id))
                        yield task
                    else:
                        open_[task.id].clear()
        finally:
            for id, ending in open_.items():
                self.forget(id, ending)

    async def progress(self, percent: float, note: str = "") -> bool:
        """Say how far the task in hand is (0..100). False outside of a task or when the attempt is stale."""
        turn = self._turn()
        if turn is None or turn.message.task is None:
            return False
        return await self._runtime.adapter.report(
            turn.message.task, turn.message.attempt, max(0.0, min(100.0, percent)), note
        )

    # ── children at run time (swarm/agent/children.py) ────────────────────────────────────────────
    async def spawn(
        self, character: Source, *, wait: float = CHILD_SECONDS, **options: Unpack[ChildOptions]
    ) -> Child:
        """Make a child, or find it: the same character under the same name is the same child. It is known, has its
        rights and its logins, and is placed when this returns; ready too, unless `wait` seconds are over before.
        Raises NoAuthority, Refused (a bound, or another character lives under the name), CharacterError."""
        return await self._children.spawn(character, wait, **options)

    async def stop_child(self, name: str, *, wait: float = CHILD_SECONDS) -> Child:
        """It drains; its mail waits. Raises UnknownChild, NoAuthority without the right to control children."""
        return await self._children.command(name, "stop", wait)

    async def start_child(self, name: str, *, wait: float = CHILD_SECONDS) -> Child:
        return await self._children.command(name, "start", wait)

    async def restart_child(self, name: str, *, wait: float = CHILD_SECONDS) -> Child:
        return await self._children.command(name, "restart", wait)

    async def remove_child(self, name: str, *, wait: float = CHILD_SECONDS) -> Child:
        """Take a child that was spawned out of the swarm. Its memories and its mail stay."""
        return await self._children.command(name, "remove", wait)

    # ── what the mailbox and the handles need ─────────────────────────────────────────────────────
    def ring(self, recipients: Iterable[str]) -> None:
        """Hint that these agents have new mail in the ledger."""
        if self._bell is not None:
            self._bell.pull(to=recipients)

    def task_ended(self, task: str) -> None:
        """The ledger says that a task of ours has ended: wake whoever waits for it."""
        for ending in self._endings.get(task, ()):
            ending.set()

    def ending_of(self, task: str) -> asyncio.Event:
        ending = asyncio.Event()
        self._endings.setdefault(task, []).append(ending)
        return ending

    def forget(self, task: str, ending: asyncio.Event) -> None:
        waiting = self._endings.get(task)
        if waiting and ending in waiting:
            waiting.remove(ending)
            if not waiting:
                del self._endings[task]

    async def look(self, task: str) -> Task | None:
        found = await self._runtime.adapter.get_tasks([task])
        return found[0] if found else None

    # ── inside ────────────────────────────────────────────────────────────────────────────────────
    async def _delegate(self, child: str, jobs: Sequence[Job]) -> list[TaskHandle]:
        turn = self._turn()
        tasks = [
            NewTask(
                id=turn.mint("task", job.key or None) if turn else new_id(),
                child=child,
                goal=job.goal,
                input=job.input,
                deadline=None if job.deadline is None else int((time.time() + job.deadline) * 1000),
                parent_task=turn.message.task if turn else None,
                hops=self._hops(turn),
                traceparent=current_traceparent(),
            )
            for job in jobs
        ]
        reached("agent.delegate.before")
        accepted = await self._runtime.adapter.delegate(tasks)
        reached("agent.delegate.after")
        self.ring({task.child for task in accepted})
        return [TaskHandle(self, task) for task in accepted]

    async def _send(
        self,
        kind: LedgerKind,
        to: str,
        text: str,
        data: Mapping[str, Any] | None,
        room: str,
        ttl: float | None,
    ) -> Receipt:
        turn = self._turn()
        outgoing = Outgoing(
            id=turn.mint("message") if turn else new_id(),
            to=to,
            room=room,
            kind=kind,
            content=storable_content(f"The message to {to}", text, data),
            in_reply_to=turn.message.id if turn else None,
            expires_at=None if ttl is None else int((time.time() + ttl) * 1000),
            hops=turn.message.hops + 1 if turn else 0,
            origin=_origin(turn),
            traceparent=current_traceparent(),
        )
        if turn is not None and outgoing.hops <= MAX_HOPS:
            # A message that nobody gets should fail the handler here, not die after its commit.
            receipt = Receipt(outgoing.id, await self._runtime.adapter.resolve(to))
            turn.outgoing.append(outgoing)
        else:
            # Past the bound too, and at once: the ledger refuses it, and notes who answers whom.
            with self._counting_refusals():
                (receipt,) = await self._runtime.adapter.post([outgoing])
            self.ring(receipt.recipients)
        await self._runtime.events.emit("message:send", receipt=receipt)
        return receipt

    @contextmanager
    def _counting_refusals(self) -> Iterator[None]:
        try:
            yield
        except Refused as error:
            self._runtime.metrics.count_refusal(error.reason)
            raise

    def _turn(self) -> TurnInHand | None:
        turn = current_turn()
        return turn if turn is not None and turn.runtime is self._runtime else None

    def _hops(self, turn: TurnInHand | None) -> int:
        """One more than the message in hand has come. Raises Refused at the bound."""
        if turn is None:
            return 0
        if turn.message.hops >= MAX_HOPS:
            raise Refused(
                f"This conversation has gone through {MAX_HOPS} agents and is stopped here; "
                "look for agents that answer each other.",
                reason="hops",
            )
        return turn.message.hops + 1


class _Ending(asyncio.Event):
    """An ending that also says, in a queue, whose it is."""

    def __init__(self, task: str, ended: asyncio.Queue[str]) -> None:
        super().__init__()
        self._task = task
        self._ended = ended

    def set(self) -> None:
        if not self.is_set():
            self._ended.put_nowait(self._task)
        super().set()


def _origin(turn: TurnInHand | None) -> str | None:
    """The message that began the conversation in hand. A task begins its own."""
    if turn is None or turn.message.origin is not None:
        return turn.message.origin if turn else None
    id = turn.message.id
    return id if is_uuid(id) else string_to_uuid(id)  # a foreign client names its asks as it likes


def _direct(one: str, other: str) -> str:
    """The room of two: the same from both sides."""
    return "direct:" + ":".join(sorted((one, other)))
