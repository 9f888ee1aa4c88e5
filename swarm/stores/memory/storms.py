"""The rules of `0013_storms.sql` in memory: what agents may send, counted and refused where it is accepted.

Here every message counts, whatever the bound: samples are for Postgres, where counting costs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import msgspec

from bus.envelope import MAX_HOPS
from swarm.limits import AgentLimits, Storm, StormKind
from swarm.records import Outgoing

if TYPE_CHECKING:
    from swarm.stores.memory.database import MemoryDatabase
    from swarm.stores.memory.rows import AgentRow, DeliveryRow, MessageRow

NO_LIMITS = AgentLimits(conversation_messages=0, pair_per_minute=0, tells_per_minute=0)


class Storms:
    def __init__(self, database: MemoryDatabase, now: Callable[[], int]) -> None:
        self._database = database
        self._now = now
        self.limits: dict[str, AgentLimits] = {}
        """By agent id."""
        self.noted: dict[tuple[StormKind, str, str], Storm] = {}
        self._paces: dict[tuple[str, str], tuple[int, int]] = {}
        self._conversations: dict[str, int] = {}

    def with_cause(
        self, sender: AgentRow, message: Outgoing, in_hand: DeliveryRow | None
    ) -> tuple[Outgoing, MessageRow | None]:
        """The message as far as it has really come, and the one because of which it is sent."""
        cause = in_hand.message if in_hand is not None else self._got(sender, message.in_reply_to)
        if cause is None:
            return message, None
        hops, origin = max(message.hops, cause.hops + 1), cause.origin or cause.id
        because = message.in_reply_to or cause.id
        return msgspec.structs.replace(message, hops=hops, origin=origin, in_reply_to=because), cause

    def refusal(
        self, sender: AgentRow, message: Outgoing, recipients: Sequence[AgentRow], cause: MessageRow | None
    ) -> str | None:
        """Why this may not be sent now, ``kind: sentence``, noted; None when it may, and then it is counted."""
        recipient = next((a for a in recipients if a.name == message.to), None)
        other = recipient.name if recipient else ""
        if message.hops > MAX_HOPS:
            return self.note(
                "hops", sender.name, other,
                f"this conversation has come through {MAX_HOPS} agents, the last of them "
                f"{self._path(sender, other, cause)}; look for agents that answer each other",
            )  # fmt: skip
        limits = self._limits_of(sender)
        if message.hops and message.origin is not None and (most := limits.conversation_messages):
            count = 1 if recipient else len(recipients)
            self._conversations[message.origin] = self._conversations.get(message.origin, 0) + count
            if self._conversations[message.origin] > most:
                return self.note(
                    "conversation", sender.name, other,
                    f"over {most} messages have come of one, which is limits.conversation_messages, the last of "
                    f"them through {self._path(sender, other, cause)}",
                )  # fmt: skip
        if (most := limits.tells_per_minute) and self._pace(sender.id, "") > most:
            return self.note(
                "quota", sender.name, "",
                f"{sender.name} has sent over {most} messages within a minute, which is limits.tells_per_minute",
            )  # fmt: skip
        if recipient is not None and (most := limits.pair_per_minute):
            minute, back = self._paces.get((recipient.id, sender.id), (0, 0))
            answered = minute == self._now() // 60_000 and back > most // 2
            if self._pace(sender.id, recipient.id) > most and answered:
                return self.note(
                    "pair_rate", sender.name, other,
                    f"{sender.name} and {other} have sent each other over {most} messages within a minute, "
                    "which is limits.pair_per_minute",
                )  # fmt: skip
        return None

    def _limits_of(self, sender: AgentRow) -> AgentLimits:
        if sender.reserved:
            return NO_LIMITS
        return self.limits.get(sender.id) or self.limits.get(sender.parent or "") or AgentLimits()

    def _pace(self, sender: str, recipient: str) -> int:
        now = self._now() // 60_000
        minute, count = self._paces.get((sender, recipient), (now, 0))
        count = count + 1 if minute == now else 1
        self._paces[sender, recipient] = (now, count)
        return count

    def _got(self, agent: AgentRow, id: str | None) -> MessageRow | None:
        """The message of this id that `agent` is a recipient of."""
        if id is None:
            return None
        for row in self._database.messages_of(id.lower()):
            if any(delivery.recipient == agent.id for delivery in row.deliveries):
                return row
        return None

    def _path(self, sender: AgentRow, recipient: str, cause: MessageRow | None) -> str:
        names = [name for name in (recipient, sender.name) if name]
        while cause is not None and len(names) < 8:
            before = self._database.agents[cause.sender]
            names.append(before.name)
            cause = self._got(before, cause.in_reply_to)
        return ("… → " if len(names) == 8 else "") + " → ".join(reversed(names))

    def note(self, kind: StormKind, sender: str, recipient: str, text: str) -> str:
        now = self._now()
        old = self.noted.get((kind, sender, recipient))
        self.noted[kind, sender, recipient] = Storm(
            kind=kind,
            sender=sender,
            recipient=recipient,
            text=text,
            refused=1 if old is None else old.refused + 1,
            first_at=now if old is None else old.first_at,
            last_at=now,
        )
        return f"{kind}: {text}"
