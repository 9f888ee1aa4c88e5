"""Storms: who answers whom without end. The ledger refuses what is told; here it is what is asked.

An ask is in no ledger, but it carries its hops and its origin, so that a loop through asks, or through asks and
tells in turn, ends like any other: at 32 hops, or when its conversation has had its budget of asks. What was
refused here lives as long as the term; what the ledger refused is read from it.
"""

from __future__ import annotations

import time
from typing import Any, Final

from bus.envelope import MAX_HOPS, Envelope
from bus.errors import Refused
from coordinator.metrics import Metrics
from swarm.ledger import Ledger
from swarm.limits import AgentLimits, Storm, refused

SHOWN_SECONDS: Final = 600.0
"""How long `swarm ps` names a storm after its last refusal."""
CONVERSATIONS: Final = 4096
"""Conversations whose asks are counted; beyond, the oldest are forgotten (their hops still end them)."""
ASKS: Final = AgentLimits().conversation_messages
DEPTHS: Final = 8
"""So often may one agent ask the same other one in one chain. Each of these asks holds a place of its agent until the
next is answered, so that a loop would fill all places, and wait there for its deadline, before it had 32 hops."""


class Storms:
    def __init__(self, ledger: Ledger, metrics: Metrics) -> None:
        self._ledger = ledger
        self._metrics = metrics
        self._asks: dict[str, int] = {}
        self._depths: dict[tuple[str, str, str], int] = {}
        """By origin, sender and address: the hops at which it was asked, a bit for each."""
        self._noted: dict[tuple[str, str, str], Storm] = {}

    def check_ask(self, ask: Envelope, sender: str) -> None:
        """Count it. Raises Refused (hops, conversation) when the conversation must end here."""
        last = f"the last of them {sender} → {ask.to}; look for agents that answer each other"
        if ask.hops > MAX_HOPS:
            text = f"this conversation has come through {MAX_HOPS} agents, {last}"
            raise self._refuse("hops", sender, ask.to, text)
        if not ask.hops or ask.origin is None:
            return
        way = (ask.origin, sender, ask.to)
        depths = self._depths.get(way, 0) | 1 << ask.hops
        if way not in self._depths and len(self._depths) >= CONVERSATIONS:
            del self._depths[next(iter(self._depths))]
        self._depths[way] = depths
        if depths.bit_count() > DEPTHS:
            text = (
                f"in one chain {sender} has asked {ask.to} over {DEPTHS} times because it was asked, {last}"
            )
            raise self._refuse("hops", sender, ask.to, text)
        count = self._asks.get(ask.origin, 0) + 1
        if count == 1 and len(self._asks) >= CONVERSATIONS:
            del self._asks[next(iter(self._asks))]
        self._asks[ask.origin] = count
        if count > ASKS:
            text = f"over {ASKS} asks have come of one message, the last of them {sender} → {ask.to}"
            raise self._refuse("conversation", sender, ask.to, text)

    def _refuse(self, kind: Any, sender: str, to: str, text: str) -> Refused:
        self._metrics.loops_refused += 1
        now = int(time.time() * 1000)
        old = self._noted.pop((kind, sender, to), None)
        if len(self._noted) >= CONVERSATIONS:
            del self._noted[next(iter(self._noted))]
        self._noted[kind, sender, to] = Storm(
            kind=kind,
            sender=sender,
            recipient=to,
            text=text,
            refused=1 if old is None else old.refused + 1,
            first_at=now if old is None else old.first_at,
            last_at=now,
        )
        return refused(f"{kind}: {text}")

    async def recent(self) -> list[Storm]:
        """What was refused lately, in asks and in the ledger, the newest first."""
        since = int((time.time() - SHOWN_SECONDS) * 1000)
        asks = [storm for storm in self._noted.values() if storm.last_at >= since]
        return sorted([*asks, *await self._ledger.storms(since)], key=lambda storm: -storm.last_at)


def mark(rows: list[dict[str, Any]], storms: list[Storm]) -> None:
    """Give each of `swarm ps`'s rows its `limit`: the newest refusal that concerns the agent, or ""."""
    limits: dict[str, str] = {}
    for storm in storms:
        for name in (storm.sender, storm.recipient):
            limits.setdefault(name, f"{storm.kind}: {storm.text}")
    for row in rows:
        row["limit"] = limits.get(row["name"], "")
