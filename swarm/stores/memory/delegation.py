"""Delegation on a `MemoryDatabase`: a task is a row, a message to the child and its delivery."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any, Final

import msgspec

from bus.errors import Refused
from swarm.errors import InboxFull, NoAuthority, StoreError, UnknownChild
from swarm.records import OPERATOR, Content, NewTask, Task
from swarm.stores.checks import to_json
from swarm.stores.memory.accepting import inbox_full
from swarm.stores.memory.database import MemoryDatabase
from swarm.stores.memory.jsonb import content_json
from swarm.stores.memory.rows import AgentRow, TaskRow

_object: Final = msgspec.json.Decoder(dict[str, Any])


def delegate(database: MemoryDatabase, sender: AgentRow, tasks: Sequence[NewTask]) -> list[Task]:
    """Accept tasks from `sender`, all or none. Raises UnknownAgent, NoAuthority, StoreError."""
    inputs = [_object.decode(to_json("The task", t.input)) for t in tasks]
    to_json("The task", [t.goal for t in tasks])
    children = [_child(database, sender, task) for task in tasks]
    for task, child, input in zip(tasks, children, inputs, strict=True):
        _check_known(database, sender, task, child, input)
    _check_room(database, tasks, children)
    for task, child, input in zip(tasks, children, inputs, strict=True):
        if task.id.lower() not in database.tasks:
            _put_task(database, sender, task, child, input)
    return [database.task_value(database.tasks[t.id.lower()]) for t in tasks]


def _child(database: MemoryDatabase, sender: AgentRow, task: NewTask) -> AgentRow:
    """Whom the task is for. Raises UnknownChild, NoAuthority."""
    child = database.names.get(task.child) or database.agents.get(task.child.lower())
    if child is None or child.reserved:
        known = sorted(row.name for row in database.agents.values() if not row.reserved)
        raise UnknownChild(task.child, known)
    if not database.authority(sender, child):
        raise NoAuthority
    return child


def _check_known(
    database: MemoryDatabase, sender: AgentRow, task: NewTask, child: AgentRow, input: dict[str, Any]
) -> None:
    """Raises StoreError when the id is another task's, NoAuthority and Refused for the task above."""
    known = database.tasks.get(task.id.lower())
    if known is not None:
        if known.parent != sender.id:
            raise StoreError(f"The id {task.id} is taken by another task.", reason="id_taken")
        if (known.child, known.goal, known.input) != (child.id, task.goal, input):
            raise StoreError(
                f"Task {task.id} was given before, with another child, goal or input; give what differs an id of "
                "its own.",
                reason="id_taken",
            )
        return
    if task.parent_task is not None:
        above = database.tasks.get(task.parent_task.lower())
        if above is None or (above.child != sender.id and sender.name != OPERATOR):
            raise NoAuthority(f"Task {task.parent_task} is not in your hands")
        if not above.open:
            raise Refused(
                f"Task {task.parent_task} is {above.state}; nothing more is delegated in its course.",
                reason="task_state",
            )


def _check_room(database: MemoryDatabase, tasks: Sequence[NewTask], children: Sequence[AgentRow]) -> None:
    """Raises InboxFull."""
    more: Counter[str] = Counter()
    for task, child in zip(tasks, children, strict=True):
        if task.id.lower() not in database.tasks:
            more[child.id] += 1
            if (why := inbox_full(database, child, more[child.id], 0)) is not None:
                raise InboxFull(why, child.name)


def _put_task(
    database: MemoryDatabase, sender: AgentRow, task: NewTask, child: AgentRow, input: dict[str, Any]
) -> None:
    id, now = task.id.lower(), database.now()
    row = TaskRow(
        id,
        sender.id,
        child.id,
        task.goal,
        input,
        task.max_attempts,
        now,
        now,
        deadline=task.deadline,
        parent_task=task.parent_task.lower() if task.parent_task else None,
        hops=task.hops,
        traceparent=task.traceparent,
    )
    database.tasks[id] = row
    post_task(database, row, id)


def post_task(database: MemoryDatabase, task: TaskRow, message: str) -> None:
    """Put a task on its way to the child as `message`: the first time under its own id, then as often as it goes
    again. Its attempts go on counting, so that an earlier one stays stale."""
    data: dict[str, Any] = {
        "task": task.id,
        "input": task.input,
        "deadline": task.deadline,
        "parent_task": task.parent_task,
        "max_attempts": task.max_attempts,
    }
    if task.inputs:
        data["inputs"] = msgspec.to_builtins(task.inputs)
        if task.inputs[-1].actions:
            data["action"] = list(task.inputs[-1].actions)
    content = Content(task.goal, data)
    row = database.put_message(
        database.agents[task.parent],
        message,
        database.name(task.child),
        f"task:{task.id}",
        "task",
        content,
        expires_at=task.deadline,
        hops=task.hops,
        traceparent=task.traceparent,
    )
    size = len(content_json(content).encode())
    database.put_delivery(row, task.child, attempts=task.attempts, bytes=size)
