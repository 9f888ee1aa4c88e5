"""How an agent speaks with others: ask, tell, announce, delegate.

In a turn, a tell and an announcement join what the turn commits: they are sent if, and only if, its
other effects are. An ask and a delegation are for now, so they go out at once; delegating is in `delegating.py`.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final, Unpack

from bus.bus import Bus
from bus.envelope import MAX_HOPS, Envelope, pack
from bus.errors import NobodyThere, Refused
from bus.subjects import Subjects
from swarm.agent.asking import ask_on
from swarm.agent.bell import BellRope
from swarm.agent.children import CHILD_SECONDS, Child, Children
from swarm.agent.delegating import Delegating, Job, TaskHandle
from swarm.agent.hand import TurnInHand
from swarm.agent.hearing import OnPiece
from swarm.agent.storable import storable_content
from swarm.ids import is_uuid, new_id, string_to_uuid
from swarm.records import (
    Content,
    LedgerKind,
    Outgoing,
    Receipt,
)
from swarm.tracing.tracer import current_traceparent

if TYPE_CHECKING:
    from swarm.agent.runtime import AgentRuntime
    from swarm.spawning import ChildOptions, Source

log = logging.getLogger(__name__)

ASK_SECONDS: Final = 30.0


__all__ = ["Job", "Peers", "TaskHandle"]


class Peers(Delegating):
    """The other agents, as this one may reach them. `connect` gives it the wire."""

    def __init__(self, runtime: AgentRuntime) -> None:
        super().__init__(runtime)
        self._bus: Bus | None = None
        self._subjects: Subjects | None = None
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

    # ── inside ────────────────────────────────────────────────────────────────────────────────────
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


def _origin(turn: TurnInHand | None) -> str | None:
    """The message that began the conversation in hand. A task begins its own."""
    if turn is None or turn.message.origin is not None:
        return turn.message.origin if turn else None
    id = turn.message.id
    return id if is_uuid(id) else string_to_uuid(id)  # a foreign client names its asks as it likes


def _direct(one: str, other: str) -> str:
    """The room of two: the same from both sides."""
    return "direct:" + ":".join(sorted((one, other)))
