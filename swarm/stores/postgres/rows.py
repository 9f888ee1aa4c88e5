"""Rows of Postgres as the values of `swarm.records`."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import groupby
from typing import Any, Final, TypeVar
from uuid import UUID

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
from swarm.scaling import ScalePolicy

Row = Any  # asyncpg.Record, which is untyped

_S = TypeVar("_S", bound=msgspec.Struct)

_content: Final = msgspec.json.Decoder(Content).decode
_object: Final = msgspec.json.Decoder(dict[str, Any]).decode
_JSON: Final[dict[str, Callable[[str], Any]]] = {
    "content": _content,
    "input": _object,
    "scale": msgspec.json.Decoder(ScalePolicy).decode,
    "result": _content,
    "inputs": msgspec.json.Decoder(tuple[TaskInput, ...]).decode,
}
"""Columns of JSON, and what is in them."""


def to_object(text: str) -> dict[str, Any]:
    return _object(text)


def _value(kind: type[_S], row: Row, **given: Any) -> _S:
    """A value whose fields are the row's columns of the same names, but for those given."""
    fields = {name: _plain(name, row[name]) for name in kind.__struct_fields__ if name not in given}
    return kind(**fields, **given)


def _plain(name: str, value: Any) -> Any:
    if value is None:
        return None
    if name in _JSON:
        return _JSON[name](value)
    if isinstance(value, UUID):
        return str(value)
    return tuple(value) if isinstance(value, list) else value


def to_agent(row: Row) -> AgentRecord:
    rights = _value(AgentPermissions, row)
    birth = None if row["born_of"] is None else Birth(row["born_of"], tuple(row["secrets"]))
    return _value(AgentRecord, row, permissions=rights, birth=birth)


def to_dispatch(row: Row) -> Dispatch:
    return _value(Dispatch, row)


def to_storm(row: Row) -> Storm:
    return _value(Storm, row)


def to_ended(row: Row) -> Ended:
    return _value(Ended, row)


def to_dead_letter(row: Row) -> DeadLetter:
    return _value(DeadLetter, row, to=row["address"], reason=row["reason"] or "")


def to_memory(row: Row) -> Memory:
    return _value(Memory, row)


def to_task(row: Row) -> Task:
    return _value(Task, row)


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
                content=_content(first["content"]),
                accepted_at=first["accepted_at"],
                deliveries=tuple(
                    DeliveryView(d["recipient"], d["state"], d["attempts"], d["reason"], d["handled_at"])
                    for d in deliveries
                    if d["seq"] is not None
                ),
            )
        )
    return views
