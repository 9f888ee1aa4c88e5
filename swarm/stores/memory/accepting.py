"""Accepting messages on a `MemoryDatabase`: the rules of `0004_accept.sql` and of the bounds in `0012_bounds.sql`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from hashlib import md5
from typing import Final

import msgspec

from bus.envelope import MAX_HOPS
from bus.errors import Refused
from swarm.errors import InboxFull
from swarm.limits import refused
from swarm.records import Content, Outgoing, Receipt
from swarm.stores.checks import to_json
from swarm.stores.memory.database import MemoryDatabase
from swarm.stores.memory.jsonb import content_json
from swarm.stores.memory.rows import AgentRow, DeliveryRow, MessageRow

_content: Final = msgspec.json.Decoder(Content)
MINUTE: Final = 60_000


def accept(
    database: MemoryDatabase,
    sender: AgentRow,
    messages: Sequence[Outgoing],
    *,
    strict: bool,
    in_hand: DeliveryRow | None = None,
) -> tuple[list[Receipt], list[str]]:
    """Receipts, and the ids of messages that nobody gets: nobody is called so, the only inbox is full, or they are
    refused. With `strict` that is an error instead. `in_hand`: because of what the sender sends them."""
    causes = {}
    for number, message in enumerate(messages := list(messages)):
        messages[number], causes[message.id] = database.storms.with_cause(sender, message, in_hand)
    contents = {m.id: _content.decode(to_json("The message", m.content)) for m in messages}
    fresh = [m for m in messages if (m.id.lower(), sender.id) not in database.messages]
    plans = _plan(database, sender, fresh, contents)
    if strict:
        _raise_unknown(database, sender, plans)
    _judge(database, sender, plans, causes, strict=strict)
    if strict:
        _raise_full(plans)
    unheard: list[str] = []
    dead: list[DeliveryRow] = []
    for plan in plans:
        message = plan.message
        row = database.put_message(
            sender,
            message.id.lower(),
            message.to,
            message.room,
            message.kind,
            contents[message.id],
            in_reply_to=message.in_reply_to,
            expires_at=message.expires_at,
            hops=min(message.hops, MAX_HOPS),
            origin=message.origin,
            traceparent=message.traceparent,
        )
        row.announced = plan.counts and plan.refused is None
        for recipient, why in plan.recipients:
            delivery = database.put_delivery(row, recipient.id, bytes=plan.bytes, dead=why)
            if why is not None:
                dead.append(delivery)
        if not plan.recipients and plan.nobody is not None:
            dead.append(database.put_delivery(row, None, bytes=plan.bytes, dead=plan.nobody))
        heard = any(why is None for _, why in plan.recipients)
        if not heard and (plan.nobody is not None or plan.refused is not None or not plan.to_many):
            unheard.append(row.id)
    for delivery in dead:
        database.send_notice(delivery)
    return [_receipt(database, sender, m) for m in messages], unheard


def _receipt(database: MemoryDatabase, sender: AgentRow, message: Outgoing) -> Receipt:
    """With the recipients that were not dead when it was accepted."""
    row = database.messages[message.id.lower(), sender.id]
    names = [
        database.name(d.recipient) for d in row.deliveries if d.recipient is not None and d.inbox is not None
    ]
    return Receipt(message.id, tuple(sorted(names)))


class _Plan:
    """What is to become of one message: its recipients, each with why it does not get it; or why nobody does."""

    def __init__(self, message: Outgoing, size: int) -> None:
        self.message = message
        self.bytes = size
        self.recipients: list[tuple[AgentRow, str | None]] = []
        self.refused: str | None = None
        self.nobody: str | None = None

    @property
    def to_many(self) -> bool:
        to = self.message.to
        return (
            to in ("all", "children")
            or to.startswith("group:")
            or (self.message.kind == "announce" and to.startswith("role:"))
        )

    @property
    def counts(self) -> bool:
        """Whether it counts against its sender's rate of announcing."""
        return self.to_many and self.message.to != "children"


def _plan(
    database: MemoryDatabase, sender: AgentRow, fresh: Sequence[Outgoing], contents: dict[str, Content]
) -> list[_Plan]:
    plans = [_Plan(m, len(content_json(contents[m.id]).encode())) for m in fresh]
    for plan in plans:
        to = plan.message.to
        found = _recipients(database, sender, plan.message)
        if not found and to not in ("all", "children") and not database.is_group(to):
            own = to in (sender.name, sender.id)
            plan.nobody = "an agent does not write to itself" if own else f"there is no agent '{to}'"
        plan.recipients = [(recipient, None) for recipient in found]
    return plans


def _judge(
    database: MemoryDatabase,
    sender: AgentRow,
    plans: Sequence[_Plan],
    causes: Mapping[str, MessageRow | None],
    *,
    strict: bool,
) -> None:
    """Who gets it and who does not, and why. Raises the first refusal if `strict`."""
    messages: Counter[str] = Counter()
    sizes: Counter[str] = Counter()
    announced = 0
    for plan in plans:
        found = [recipient for recipient, _ in plan.recipients]
        plan.refused = database.storms.refusal(sender, plan.message, found, causes[plan.message.id])
        if plan.refused is None:
            plan.refused = _announce_refused(database, sender, plan, announced)
        if plan.refused is not None:
            if strict:
                raise refused(plan.refused)
            # Of what is refused one delivery tells, whomever it was for.
            plan.nobody = plan.refused
            plan.recipients = [(recipient, plan.refused) for recipient in found[:1]]
            continue
        announced += plan.counts
        for number, recipient in enumerate(found):
            messages[recipient.id] += 1
            sizes[recipient.id] += plan.bytes
            full = inbox_full(database, recipient, messages[recipient.id], sizes[recipient.id])
            plan.recipients[number] = (recipient, full)


def _recipients(database: MemoryDatabase, sender: AgentRow, message: Outgoing) -> list[AgentRow]:
    found = [a for a in database.addressed(sender, message.to) if a is not sender]
    if message.to.startswith("role:") and message.kind != "announce":
        id = message.id.lower()
        found.sort(key=lambda a: (a.desired != "running", md5((a.id + id).encode()).hexdigest()))  # noqa: S324
        return found[:1]
    return found


def _raise_unknown(database: MemoryDatabase, sender: AgentRow, plans: Sequence[_Plan]) -> None:
    for plan in plans:
        to = plan.message.to
        if plan.nobody is None:
            continue
        if to in (sender.name, sender.id):
            raise Refused(
                f"{to} would write to itself; an agent never gets its own message.", reason="own_message"
            )
        raise database.unknown(to)


def _raise_full(plans: Sequence[_Plan]) -> None:
    for plan in plans:
        for recipient, why in () if plan.to_many else plan.recipients:
            if why is not None:
                raise InboxFull(why, recipient.name)


def _announce_refused(database: MemoryDatabase, sender: AgentRow, plan: _Plan, before: int) -> str | None:
    """Why this may not be announced, ``kind: sentence``, noted; None when it may."""
    if sender.reserved or not (plan.counts or plan.message.kind == "announce"):
        return None
    note = database.storms.note
    if not sender.permissions.announce:
        return note(
            "announce_right", sender.name, "",
            f"{sender.name} may not announce; permissions = {{ announce = true }} in the swarm file allows it",
        )  # fmt: skip
    if not plan.counts:
        return None
    bounds = sender.bounds
    if plan.bytes > bounds.announce_bytes:
        return note(
            "announce_limit", sender.name, "",
            f"its {plan.bytes} bytes are more than {sender.name} may announce at once, which is "
            f"{bounds.announce_bytes} (limits.announce_kb)",
        )  # fmt: skip
    since = database.now() - MINUTE
    recent = before + sum(
        row.announced and row.sender == sender.id and row.accepted_at > since
        for row in database.messages.values()
    )
    if recent >= bounds.announce_per_minute:
        return note(
            "announce_limit", sender.name, "",
            f"{sender.name} has announced {recent} times within a minute, which is limits.announce_per_minute",
        )  # fmt: skip
    return None


def inbox_full(database: MemoryDatabase, agent: AgentRow, messages: int, size: int) -> str | None:
    """Why the inbox of `agent` does not take so many more, of so many bytes together; None if it does."""
    count, bounds = database.inbox(agent.id), agent.bounds
    if count.messages + messages > bounds.inbox_messages:
        return (
            f"the inbox of {agent.name} is full: {count.messages} messages wait there and its bound is "
            f"{bounds.inbox_messages} (inbox_messages)"
        )
    if count.bytes + size > bounds.inbox_bytes:
        return (
            f"the inbox of {agent.name} is full: {count.bytes} bytes wait there and its bound is "
            f"{bounds.inbox_bytes} (inbox_mb)"
        )
    return None
