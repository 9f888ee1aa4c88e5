"""An operator speaks: for itself, or with ``as`` for a known agent."""

from __future__ import annotations

import time
from typing import Any

import msgspec

from bus.bus import Bus
from bus.envelope import Envelope, pack, read_body
from coordinator.asks import Asks
from coordinator.broadcast import Broadcast
from coordinator.hierarchy import Hierarchy
from coordinator.router import Router
from coordinator.sleeping import Sleeping
from coordinator.verbs.verb import Args, Text, Verbs, Wait
from swarm.failpoints import reached
from swarm.ids import new_id
from swarm.ledger import Ledger
from swarm.records import OPERATOR, Content, Outgoing


class AskArgs(Args):
    agent: str
    text: Text = ""
    data: dict[str, Any] = msgspec.field(default_factory=dict)
    room: str = OPERATOR
    timeout: Wait = 30.0


class TellArgs(Args):
    agent: str
    text: Text = ""
    data: dict[str, Any] = msgspec.field(default_factory=dict)
    room: str = OPERATOR
    ttl: Wait | None = None
    id: str | None = None
    sender: str | None = msgspec.field(name="as", default=None)


class AnnounceArgs(Args):
    text: Text = ""
    data: dict[str, Any] = msgspec.field(default_factory=dict)
    to: str = "all"
    room: str = "all"
    wait: Wait = 0.0
    id: str | None = None
    sender: str | None = msgspec.field(name="as", default=None)


class ReportArgs(Args):
    id: str
    wait: Wait = 0.0


class Saying:
    def __init__(
        self,
        bus: Bus,
        ledger: Ledger,
        router: Router,
        asks: Asks,
        broadcast: Broadcast,
        hierarchy: Hierarchy,
        sleeping: Sleeping,
    ) -> None:
        self._bus = bus
        self._ledger = ledger
        self._router = router
        self._asks = asks
        self._broadcast = broadcast
        self._hierarchy = hierarchy
        self._sleeping = sleeping

    def verbs(self) -> Verbs:
        return {
            "ask": (AskArgs, self.ask),
            "tell": (TellArgs, self.tell),
            "announce": (AnnounceArgs, self.announce),
            "announce_report": (ReportArgs, self.announce_report),
        }

    async def ask(self, args: AskArgs) -> dict[str, Any]:
        """`{"id", "from", "text", "data"}`. To stream, send an envelope of kind ``ask`` instead."""
        ask = Envelope(
            id=new_id(),
            sender=OPERATOR,
            to=args.agent,
            room=args.room,
            kind="ask",
            body=pack(Content(text=args.text, data=args.data)),
            deadline=int((time.time() + args.timeout) * 1000),
        )
        if coming := self._sleeping.awaits(ask, OPERATOR):
            await self._sleeping.start(coming, ask)
        reply = await self._asks.ask(self._bus, ask, args.timeout)
        content = read_body(reply, Content)
        return {"id": ask.id, "from": reply.sender, "text": content.text, "data": content.data}

    async def tell(self, args: TellArgs) -> dict[str, Any]:
        """`{"id", "status": "accepted", "recipients": [names]}`."""
        sender = self._hierarchy.on_behalf_of(args.sender)
        message = Outgoing(
            id=args.id or new_id(),
            to=args.agent,
            room=args.room,
            content=Content(text=args.text, data=args.data),
            expires_at=None if args.ttl is None else int((time.time() + args.ttl) * 1000),
        )
        reached("coordinator.accept.before")
        [receipt] = await self._ledger.accept(sender, [message])
        reached("coordinator.accept.after")
        self._router.ring(receipt.recipients)
        return {"id": receipt.id, "status": "accepted", "recipients": list(receipt.recipients)}

    async def announce(self, args: AnnounceArgs) -> dict[str, Any]:
        """`{"id", "recipients": n, "handled": k, "pending": [names], "missing": [{"name", "state", "why"}], …}`."""
        return await self._broadcast.announce(
            self._hierarchy.on_behalf_of(args.sender),
            Content(text=args.text, data=args.data),
            room=args.room,
            to=args.to,
            wait=args.wait,
            id=args.id,
        )

    async def announce_report(self, args: ReportArgs) -> dict[str, Any]:
        """As `announce`, of one that was made before."""
        return await self._broadcast.report(args.id, args.wait)
