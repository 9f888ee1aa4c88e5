"""Forgetting what is over, on a `MemoryDatabase`: the rules of `swarm/sql/migrations/0014_retention.sql`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import islice
from typing import Any

from swarm.records import COORDINATOR, TERMINAL_TASK_STATES
from swarm.retention import Pruned, PrunePart, Retention
from swarm.stores.memory.database import MemoryDatabase, derived
from swarm.stores.memory.rows import DeliveryRow, MessageRow, TaskRow

Before = Mapping[str, Any]
"""For each kind the moment before which it must have ended; what is missing is kept."""


def prune(database: MemoryDatabase, part: PrunePart, retention: Retention, after: str, most: int) -> Pruned:
    now, ages = database.now(), retention.milliseconds()
    of = ages.pop("memories_of")
    assert isinstance(of, dict)
    before: dict[str, Any] = {kind: now - age for kind, age in ages.items() if isinstance(age, int)}
    before["memories_of"] = {agent: now - age if age else None for agent, age in of.items()}
    parts: dict[PrunePart, Callable[[MemoryDatabase, Before, str, int], Pruned]] = {
        "messages": _messages,
        "unheard": _unheard,
        "tasks": _tasks,
        "memories": _memories,
        "tally": lambda *_: Pruned({}),  # what is in memory is counted where it stands
    }
    pruned = parts[part](database, before, after, most)
    for what, count in pruned.gone.items():
        database.pruned[what] = database.pruned.get(what, 0) + count
    return pruned


# ── messages ──────────────────────────────────────────────────────────────────────────────────────
def _messages(database: MemoryDatabase, before: Before, after: str, most: int) -> Pruned:
    moments = [before[kind] for kind in ("messages", "announcements", "notices", "dead") if kind in before]
    if not moments:
        return Pruned({})
    first = int(after or 0)
    seen = list(islice((row for seq, row in database.deliveries.items() if seq > first), most))
    old = {(row.message.id, row.message.sender): row.message for row in seen if _is_forgettable(row, before)}
    gone: Counter[str] = Counter()
    for message in old.values():
        if _is_over(database, message, before):
            gone.update(f"deliveries.{row.state}" for row in message.deliveries)
            _drop(database, message)
    more = len(seen) == most and seen[-1].message.accepted_at < max(moments)
    return Pruned(dict(gone), str(seen[-1].seq) if more else "")


def _is_over(database: MemoryDatabase, message: MessageRow, before: Before) -> bool:
    if message.room.startswith("task:") and message.room[5:] in database.tasks:
        return False
    return all(
        _is_forgettable(row, before)
        and not _is_unfinished(
            database, message.sender, row.recipient, message.room, before[_kind_of_age(row)]
        )
        and not _has_unread_notice(database, row)
        for row in message.deliveries
    )


def _has_unread_notice(database: MemoryDatabase, row: DeliveryRow) -> bool:
    """Whether its sender has not read yet that it ended badly."""
    notice = database.messages.get((derived(f"notice:{row.seq}"), database.names[COORDINATOR].id))
    return row.state != "handled" and notice is not None and any(each.open for each in notice.deliveries)


def _kind_of_age(row: DeliveryRow) -> str:
    if row.state in ("expired", "dead"):
        return "dead"
    return {"notice": "notices", "announce": "announcements"}.get(row.message.kind, "messages")


def _is_forgettable(row: DeliveryRow, before: Before) -> bool:
    moment, ended = before.get(_kind_of_age(row)), row.handled_at or row.ended_at
    return moment is not None and ended is not None and ended < moment


def _is_unfinished(database: MemoryDatabase, one: str, other: str | None, room: str, before: int) -> bool:
    """Whether something between these two that was accepted before then is open in this room."""
    return other is not None and any(
        (row.message.sender, row.message.room) == (sender, room) and row.message.accepted_at < before
        for recipient, sender in ((one, other), (other, one))
        for row in database.open.get(recipient, {}).values()
    )


def _drop(database: MemoryDatabase, message: MessageRow) -> None:
    del database.messages[message.id, message.sender]
    for row in message.deliveries:
        del database.deliveries[row.seq]


def _unheard(database: MemoryDatabase, before: Before, after: str, most: int) -> Pruned:
    moment = before.get("announcements", 0)
    found = [row for row in database.messages.values() if not row.deliveries and row.accepted_at < moment]
    for row in found[:most]:
        _drop(database, row)
    count = len(found[:most])
    return Pruned({"unheard": count} if count else {}, "1" if count == most else "")


# ── tasks ─────────────────────────────────────────────────────────────────────────────────────────
def _tasks(database: MemoryDatabase, before: Before, after: str, most: int) -> Pruned:
    moment = before.get("tasks", 0)
    at, _, id = after.partition("/")
    first = (int(at or 0), id)
    rows = sorted(database.tasks.values(), key=_place)
    seen = [row for row in rows if _place(row) > first and row.created_at < moment][:most]
    below: dict[str, list[TaskRow]] = {}
    for row in rows:
        if row.parent_task is not None:
            below.setdefault(row.parent_task, []).append(row)
    gone: Counter[str] = Counter()
    for root in seen:
        if root.parent_task is None:
            tree = _tree(root, below)
            if all(_is_done_with(database, task, moment) for task in tree):
                gone.update(_drop_tasks(database, tree))
    return Pruned(dict(gone), "{}/{}".format(*_place(seen[-1])) if len(seen) == most else "")


def _place(row: TaskRow) -> tuple[int, str]:
    return row.created_at, row.id


def _tree(root: TaskRow, below: Mapping[str, list[TaskRow]]) -> list[TaskRow]:
    tree = [root]
    for task in tree:  # it grows as we go
        tree += below.get(task.id, [])
    return tree


def _is_done_with(database: MemoryDatabase, task: TaskRow, before: int) -> bool:
    return (
        task.state in TERMINAL_TASK_STATES
        and task.updated_at < before
        and not _is_unfinished(database, task.parent, task.child, f"task:{task.id}", before)
        and not any(row.open for message in _messages_of(database, task) for row in message.deliveries)
    )


def _messages_of(database: MemoryDatabase, task: TaskRow) -> list[MessageRow]:
    """All in its room: attempts, questions, the result; whose the result is, is not known beforehand."""
    senders = {task.parent, task.child, *(row.id for row in database.agents.values() if row.reserved)}
    made = [f"result:{task.id}", *(f"attempt:{task.id}:{n + 1}" for n in range(task.failures))]
    made += [f"{what}:{task.id}:{n}" for what in ("question", "input") for n in range(len(task.inputs))]
    keys = [(id, sender) for id in (task.id, *map(derived, made)) for sender in senders]
    found = [database.messages[key] for key in keys if key in database.messages]
    return [message for message in found if message.room == f"task:{task.id}"]


def _drop_tasks(database: MemoryDatabase, tree: Iterable[TaskRow]) -> Iterator[str]:
    """What went, row by row."""
    for task in tree:
        for message in _messages_of(database, task):
            yield from (f"deliveries.{row.state}" for row in message.deliveries)
            _drop(database, message)
        del database.tasks[task.id]
        yield f"tasks.{task.state}"


# ── memories ──────────────────────────────────────────────────────────────────────────────────────
def _memories(database: MemoryDatabase, before: Before, after: str, most: int) -> Pruned:
    for agent in sorted(database.agents.values(), key=lambda row: row.id):
        moment = before["memories_of"].get(agent.name, before.get("memories"))
        shelf = database.shelves.get(agent.id)
        if agent.id <= after or moment is None or shelf is None:
            continue
        old = shelf.take_before(moment, most)
        if old:
            for memory in old:
                database.embeddings.pop((agent.id, memory.id), None)
            return Pruned({"memories": len(old)}, agent.id if len(old) < most else after or "0")
    return Pruned({})
