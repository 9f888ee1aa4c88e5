"""Rows of Postgres as the values of `swarm.records`."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import groupby
from typing import Any, Final

import msgspec

from swarm.dead_letters import DeadLetter
from swarm.limits import Storm
from swarm.records import (
    AgentPermissions,
    AgentRecord,
    Birth,
    Content,
    DeliveryView,
    Dispatch,
    Ended,
    Memory,
    MessageView,
    Outgoing,
    Receipt,
    Task,
    TaskChange,
    TaskInput,
)

Row = Any  # asyncpg.Record, which is untyped

_content: Final = msgspec.json.Decoder(Content)
_object: Final = msgspec.json.Decoder(dict[str, Any])
_inputs: Final = msgspec.json.Decoder(tuple[TaskInput, ...])


def to_object(text: str) -> dict[str, Any]:
    return _object.decode(text)


def to_agent(row: Row) -> AgentRecord:
    return AgentRecord(
        id=str(row["id"]),
        name=row["name"],
        version=row["version"],
        source=row["source"],
        parent=row["parent"],
        permissions=AgentPermissions(
            row["create_children"], row["control_children"], row["access_parent_memory"], row["announce"]
        ),
        roles=tuple(row["roles"]),
        replicas=row["replicas"],
        balance=row["balance"],
        desired=row["desired"],
        status=row["status"],
        orphans=row["orphans"],
        orphaned=row["orphaned"],
        died_at=row["died_at"],
        birth=None if row["born_of"] is None else Birth(row["born_of"], tuple(row["secrets"])),
        planned=row["planned"],
        created_at=row["created_at"],
        updated_at=row["updated_at"],
    )


def to_dispatch(row: Row) -> Dispatch:
    return Dispatch(
        delivery=row["delivery"],
        id=str(row["id"]),
        sender=row["sender"],
        recipient=row["recipient"],
        room=row["room"],
        kind=row["kind"],
        content=_content.decode(row["content"]),
        attempt=row["attempt"],
        crashes=row["crashes"],
        in_reply_to=row["in_reply_to"],
        expires_at=row["expires_at"],
        hops=row["hops"],
        origin=None if row["origin"] is None else str(row["origin"]),
        traceparent=row["traceparent"],
        accepted_at=row["accepted_at"],
    )


def to_storm(row: Row) -> Storm:
    return Storm(**dict(row))


def to_ended(row: Row) -> Ended:
    return Ended(
        delivery=row["delivery"],
        id=str(row["id"]),
        sender=row["sender"],
        recipient=row["recipient"],
        state=row["state"],
        reason=row["reason"],
    )


def to_dead_letter(row: Row) -> DeadLetter:
    return DeadLetter(
        delivery=row["delivery"],
        id=str(row["id"]),
        sender=row["sender"],
        recipient=row["recipient"],
        to=row["address"],
        room=row["room"],
        kind=row["kind"],
        content=_content.decode(row["content"]),
        state=row["state"],
        reason=row["reason"] or "",
        attempts=row["attempts"],
        crashes=row["crashes"],
        hash=row["hash"],
        accepted_at=row["accepted_at"],
        ended_at=row["ended_at"],
        error=row["error"],
        requeue_of=None if row["requeue_of"] is None else str(row["requeue_of"]),
        requeued_as=None if row["requeued_as"] is None else str(row["requeued_as"]),
        requeued_at=row["requeued_at"],
        requeued_by=row["requeued_by"],
        dropped_at=row["dropped_at"],
        dropped_by=row["dropped_by"],
    )


def to_memory(row: Row) -> Memory:
    return Memory(
        id=str(row["id"]),
        room=row["room"],
        entity=row["entity"],
        content=_content.decode(row["content"]),
        kind=row["kind"],
        created_at=row["created_at"],
    )


def to_task(row: Row) -> Task:
    return Task(
        id=str(row["id"]),
        parent=row["parent"],
        child=row["child"],
        goal=row["goal"],
        state=row["state"],
        input=_object.decode(row["input"]),
        attempts=row["attempts"],
        result=None if row["result"] is None else _content.decode(row["result"]),
        error=row["error"],
        progress=row["progress"],
        note=row["note"],
        deadline=row["deadline"],
        parent_task=None if row["parent_task"] is None else str(row["parent_task"]),
        created_at=row["created_at"],
        updated_at=row["updated_at"],
        max_attempts=row["max_attempts"],
        failures=row["failures"],
        inputs=_inputs.decode(row["inputs"]),
        wake_at=row["wake_at"],
        retry_of=None if row["retry_of"] is None else str(row["retry_of"]),
        begun_at=row["begun_at"],
        ended_at=row["ended_at"],
    )


def to_change(row: Row) -> TaskChange:
    return TaskChange(to_task(row), tuple(row["names"]))


def to_receipts(messages: Iterable[Outgoing], ids: Iterable[Any], names: Iterable[str]) -> list[Receipt]:
    """`ids` and `names` are parallel: a pair for each delivery. Recipients are sorted by name."""
    recipients: dict[str, list[str]] = {}
    for id, name in zip(ids, names, strict=True):
        recipients.setdefault(str(id), []).append(name)
    return [Receipt(m.id, tuple(sorted(recipients.get(m.id.lower(), ())))) for m in messages]


def to_message_views(rows: Iterable[Row]) -> list[MessageView]:
    """Rows of one message stand together, one for each delivery; a message without any has `seq` null."""
    views = []
    for _, group in groupby(rows, key=lambda row: (row["id"], row["sender"])):
        deliveries = list(group)
        first = deliveries[0]
        views.append(
            MessageView(
                id=str(first["id"]),
                sender=first["sender"],
                to=first["address"],
                room=first["room"],
                kind=first["kind"],
                content=_content.decode(first["content"]),
                accepted_at=first["accepted_at"],
                deliveries=tuple(
                    DeliveryView(d["recipient"], d["state"], d["attempts"], d["reason"], d["handled_at"])
                    for d in deliveries
                    if d["seq"] is not None
                ),
            )
        )
    return views
