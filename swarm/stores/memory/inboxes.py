"""The bounds of inboxes, and dead letters, on a `MemoryDatabase`: the rules of `0012_bounds.sql`."""

from __future__ import annotations

from hashlib import sha256
from typing import Final

from bus.errors import Refused
from swarm.dead_letters import DeadLetter, Requeued
from swarm.records import OPERATOR, Outgoing
from swarm.stores.memory.accepting import accept
from swarm.stores.memory.database import MemoryDatabase
from swarm.stores.memory.jsonb import content_json
from swarm.stores.memory.rows import ANSWERS, AgentRow, DeliveryRow
from swarm.stores.memory.task_life import retry

TOO_OLD: Final = "it waited longer than its recipient keeps mail (inbox_days)"


def end_aged(database: MemoryDatabase) -> list[DeliveryRow]:
    now = database.now()
    ended = []
    for id, rows in list(database.open.items()):
        before = now - database.agents[id].bounds.inbox_ms
        for row in list(rows.values()):
            waits = row.state == "accepted" and row.message.kind not in ANSWERS
            if waits and row.message.accepted_at <= before and database.end_delivery(row, "expired", TOO_OLD):
                ended.append(row)
    return sorted(ended, key=lambda row: row.seq)


# ── dead letters ──────────────────────────────────────────────────────────────────────────────────
def dead_letters(
    database: MemoryDatabase, *, agent: str | None, limit: int, settled: bool, oldest: bool
) -> list[DeadLetter]:
    rows = (
        row
        for row in sorted(database.deliveries.values(), key=lambda row: row.seq, reverse=not oldest)
        if row.state in ("expired", "dead")
    )
    found = (letter(database, row) for row in rows if settled or not (row.requeued or row.dropped))
    return [one for one in found if agent is None or one.recipient == agent][: max(limit, 0)]


def dead_letter(database: MemoryDatabase, delivery: int) -> DeadLetter | None:
    row = database.deliveries.get(delivery)
    return letter(database, row) if row is not None and row.state in ("expired", "dead") else None


def dead_letters_of(database: MemoryDatabase, id: str, *, agent: str | None) -> list[DeadLetter]:
    rows = [row for row in database.deliveries.values() if row.message.id == id]
    found = [letter(database, row) for row in rows if row.state in ("expired", "dead")]
    return [one for one in found if agent is None or one.recipient == agent]


def requeue(database: MemoryDatabase, delivery: int, id: str, by: str) -> Requeued:
    row = _unsettled(database, delivery)
    message, sender = row.message, database.agents[row.message.sender]
    recipient = database.agents[row.recipient] if row.recipient else None
    _check_may_be_sent(row, sender, recipient)
    now = database.now()
    to = recipient.name if recipient else message.address
    if message.kind == "task":
        change = retry(database, database.names[OPERATOR], database.task_of(row).id)
        id, names = change.task.id, change.names
    else:
        sent = Outgoing(
            id=id,
            to=to,
            room=message.room,
            content=message.content,
            kind=message.kind,
            in_reply_to=message.in_reply_to,
            expires_at=None if message.expires_at is None else now + message.expires_at - message.accepted_at,
            hops=message.hops,
            origin=message.origin,
            traceparent=message.traceparent,
        )
        names = accept(database, sender, [sent], strict=True)[0][0].recipients
    database.messages[id, sender.id].requeue_of = message.id
    row.requeued = (id, now, by)
    return Requeued(delivery, id, names)


def drop_dead(database: MemoryDatabase, delivery: int, by: str) -> None:
    _unsettled(database, delivery).dropped = (database.now(), by)


def _unsettled(database: MemoryDatabase, delivery: int) -> DeliveryRow:
    row = database.deliveries.get(delivery)
    if row is None or row.state not in ("expired", "dead"):
        raise _refused(f"There is no dead letter {delivery}")
    if row.requeued:
        raise _refused(
            f"Dead letter {delivery} was requeued before, by {row.requeued[2]}, as message {row.requeued[0]}"
        )
    if row.dropped:
        raise _refused(f"Dead letter {delivery} was dropped by {row.dropped[1]}")
    return row


def _check_may_be_sent(row: DeliveryRow, sender: AgentRow, recipient: AgentRow | None) -> None:
    if row.message.kind in ANSWERS:
        raise _refused(
            f"A {row.message.kind} is not sent again: it tells of something that stays in the ledger"
        )
    if not sender.planned:
        raise _refused(f"Its sender {sender.name} is no longer in the swarm")
    if recipient is not None and not recipient.planned:
        raise _refused(f"Its recipient {recipient.name} is no longer in the swarm")


def _refused(text: str) -> Refused:
    return Refused(f"{text}.", reason="dead_letter")


def letter(database: MemoryDatabase, row: DeliveryRow) -> DeadLetter:
    message = row.message
    return DeadLetter(
        delivery=row.seq,
        id=message.id,
        sender=database.name(message.sender),
        recipient=database.name(row.recipient) if row.recipient else message.address,
        to=message.address,
        room=message.room,
        kind=message.kind,
        content=message.content,
        state="expired" if row.state == "expired" else "dead",
        reason=row.reason or "",
        attempts=row.attempts,
        crashes=row.crashes,
        hash=sha256(content_json(message.content).encode()).hexdigest(),
        accepted_at=message.accepted_at,
        ended_at=row.ended_at or 0,
        error=row.last_error,
        requeue_of=message.requeue_of,
        requeued_as=row.requeued[0] if row.requeued else None,
        requeued_at=row.requeued[1] if row.requeued else None,
        requeued_by=row.requeued[2] if row.requeued else None,
        dropped_at=row.dropped[0] if row.dropped else None,
        dropped_by=row.dropped[1] if row.dropped else None,
    )
