"""Delegation on a `MemoryDatabase`: a task is a row, a message to the child and its delivery."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import msgspec

from swarm.errors import NoAuthority, StoreError
from swarm.records import OPERATOR, Content, NewTask, Task
from swarm.stores.checks import to_json
from swarm.stores.memory.database import MemoryDatabase
from swarm.stores.memory.rows import AgentRow, TaskRow

_object: Final = msgspec.json.Decoder(dict[str, Any])


def delegate(database: MemoryDatabase, sender: AgentRow, tasks: Sequence[NewTask]) -> list[Task]:
    """Accept tasks from `sender`, all or none. Raises UnknownAgent, NoAuthority, StoreError."""
    inputs = [_object.decode(to_json("The task", t.input)) for t in tasks]
    to_json("The task", [t.goal for t in tasks])
    children = [_child(database, sender, task) for task in tasks]
    for task, child, input in zip(tasks, children, inputs, strict=True):
        if task.id.lower() not in database.tasks:
            _put_task(database, sender, task, child, input)
    return [database.task_value(database.tasks[t.id.lower()]) for t in tasks]


def _child(database: MemoryDatabase, sender: AgentRow, task: NewTask) -> AgentRow:
    """Whom the task is for. Raises UnknownAgent, NoAuthority; StoreError when the id is another's."""
    child = database.names.get(task.child) or database.agents.get(task.child.lower())
    if child is None or child.reserved:
        raise database.unknown(task.child)
    if not database.authority(sender, child):
        raise NoAuthority
    if task.parent_task is not None:
        above = database.tasks.get(task.parent_task.lower())
        if above is None or (above.child != sender.id and sender.name != OPERATOR):
            raise NoAuthority(f"Task {task.parent_task} is not in your hands")
    known = database.tasks.get(task.id.lower())
    if known is not None and known.parent != sender.id:
        raise StoreError(f"The id {task.id} is taken by another task.", reason="id_taken")
    return child


def _put_task(
    database: MemoryDatabase, sender: AgentRow, task: NewTask, child: AgentRow, input: dict[str, Any]
) -> None:
    id, now = task.id.lower(), database.now()
    above = task.parent_task.lower() if task.parent_task else None
    database.tasks[id] = TaskRow(
        id,
        sender.id,
        child.id,
        task.goal,
        input,
        task.max_attempts,
        now,
        now,
        deadline=task.deadline,
        parent_task=above,
        hops=task.hops,
        traceparent=task.traceparent,
    )
    data = {
        "task": id,
        "input": input,
        "deadline": task.deadline,
        "parent_task": above,
        "max_attempts": task.max_attempts,
    }
    row = database.put_message(
        sender,
        id,
        child.name,
        f"task:{id}",
        "task",
        Content(task.goal, data),
        expires_at=task.deadline,
        hops=task.hops,
        traceparent=task.traceparent,
    )
    database.put_delivery(row, child.id)
