"""The life of a task on a `MemoryDatabase` after it was accepted: the rules of 0011_task_life.sql, in Python."""

from __future__ import annotations

from typing import Final

import msgspec

from bus.errors import Refused
from swarm.errors import NoAuthority
from swarm.records import MOST_INPUTS, OPERATOR, Content, NewTask, TaskChange, TaskInput, TaskOutcome
from swarm.stores.checks import MOST_REASON, to_json
from swarm.stores.memory.database import MemoryDatabase, derived
from swarm.stores.memory.delegation import delegate, post_task
from swarm.stores.memory.rows import AgentRow, DeliveryRow, TaskRow

PATIENCE: Final = 7 * 86_400_000
"""Milliseconds that a question waits for its answer, and a turn without an outcome for a later one."""
MOST_ANSWERS: Final = 200_000
MOST_RETRIES: Final = 10
_content: Final = msgspec.json.Decoder(Content)


def settle(
    database: MemoryDatabase, me: AgentRow, outcome: TaskOutcome, delivery: DeliveryRow | None
) -> str | None:
    """What a turn says about its task: it ends, goes again later, or asks. Returns who is told."""
    task = database.tasks.get(outcome.task.lower())
    if task is None or task.child != me.id:
        return None
    if delivery is None or delivery.message.room != f"task:{task.id}":
        for row in database.on_their_way(task):
            row.move("handled")
            row.handled_at = database.now()
            database.close_delivery(row)
    if task.state != "working":
        return None
    now, state, error = database.now(), outcome.state, outcome.error
    if state == "input-required" and len(task.inputs) >= MOST_INPUTS:
        state, error = "failed", f"it asked for input {MOST_INPUTS} times"
    if state == "failed" and outcome.retryable and task.failures + 1 < task.max_attempts:
        task.become("submitted", now)
        wait = min(60_000, 1000 * 2**task.failures) if outcome.retry_ms is None else outcome.retry_ms
        task.failures, task.error, task.wake_at = task.failures + 1, error, now + wait
        return None
    if state == "input-required":
        task.become(state, now)
        task.wake_at = now + PATIENCE
        asked = TaskInput(
            question=outcome.question or "", schema=outcome.schema, actions=outcome.actions, asked_at=now
        )
        task.inputs = (*task.inputs, asked)
        return _send_question(database, task)
    task.become(state, now)
    task.error, task.wake_at = error, None
    if state == "completed":
        task.result = _content.decode(to_json("The result", outcome.result or Content()))
    database.end_subtasks(task)
    return database.send_result(task, me)


def expect_outcome(database: MemoryDatabase, task: TaskRow) -> None:
    """Its turn ended without a word about it: a later one may have it, but not for ever."""
    if task.state == "working":
        task.touch(database.now())
        task.wake_at = database.now() + PATIENCE


def _send_question(database: MemoryDatabase, task: TaskRow) -> str | None:
    giver = database.agents[task.parent]
    if giver.reserved:
        return None
    number, asked = len(task.inputs) - 1, task.inputs[-1]
    data = {"task": task.id, "state": task.state, "question": asked.question, "schema": asked.schema}
    row = database.put_message(
        database.agents[task.child],
        derived(f"question:{task.id}:{number}"),
        giver.name,
        f"task:{task.id}",
        "result",
        Content(asked.question, data),
        in_reply_to=task.id,
        hops=min(task.hops + 1, 32),
        traceparent=task.traceparent,
    )
    database.put_delivery(row, giver.id)
    return giver.name


def wake(database: MemoryDatabase) -> list[str]:
    """Tasks whose moment has come: another attempt, or the end of a waiting that nobody ended."""
    names = []
    now = database.now()
    for task in list(database.tasks.values()):
        if not task.open or task.wake_at is None or task.wake_at > now:
            continue
        giver, child = database.agents[task.parent], database.agents[task.child]
        if task.state == "working":
            database.end_task(task, "failed", "its turn ended without an outcome, and no other brought one")
        elif task.state == "input-required":
            database.end_task(task, "failed", "nobody answered its question within 7 days")
        elif not database.authority(giver, child):
            database.end_task(task, "rejected", "No authority over this agent")
        else:
            task.touch(now)
            task.wake_at = None
            post_task(database, task, derived(f"attempt:{task.id}:{task.failures}"))
        names += [child.name, giver.name]
    return names


def cancel(database: MemoryDatabase, by: AgentRow, id: str, reason: str) -> TaskChange:
    task = _under(database, by, id)
    why = f"canceled by {by.name}"
    database.end_task(task, "canceled", f"{why}: {reason[:MOST_REASON]}" if reason else why)
    tree = [task]
    for above in tree:  # grows while it is read
        tree += [one for one in database.tasks.values() if one.parent_task == above.id]
    around = {id: database.agents[id] for one in tree for id in (one.parent, one.child)}.values()
    return TaskChange(database.task_value(task), tuple(sorted(a.name for a in around if not a.reserved)))


def answer(database: MemoryDatabase, by: AgentRow, id: str, said: Content) -> TaskChange:
    task = _under(database, by, id)
    kept = _content.decode(to_json("The answer", said))
    number = len(task.inputs) - 1
    if task.state == "input-required":
        if len(to_json("The answers", [task.inputs, kept])) > MOST_ANSWERS:
            raise Refused(
                f"The answers to task {id} come to more than {MOST_ANSWERS:,} bytes; "
                "put this one in a file and say where it is.",
                reason="task_state",
            )
        now = database.now()
        answered = msgspec.structs.replace(task.inputs[-1], answer=kept, answered_at=now, answered_by=by.name)
        task.become("working", now)
        task.wake_at, task.inputs = None, (*task.inputs[:-1], answered)
        post_task(database, task, derived(f"input:{task.id}:{number}"))
    elif number < 0 or task.inputs[-1].answer != kept:
        raise Refused(f"Task {id} is {task.state}; it asks for nothing.", reason="task_state")
    return TaskChange(database.task_value(task), (database.name(task.child),))


def retry(database: MemoryDatabase, by: AgentRow, id: str) -> TaskChange:
    task = _under(database, by, id)
    again = derived(f"retry:{task.id}")
    if again not in database.tasks:
        if task.state not in ("failed", "canceled", "rejected"):
            raise Refused(
                f"Task {id} is {task.state}; only one that failed, was canceled or rejected is given again.",
                reason="task_state",
            )
        if task.retries >= MOST_RETRIES:
            raise Refused(
                f"Task {id} has been given again {MOST_RETRIES} times; mend what is wrong and delegate it anew.",
                reason="task_state",
            )
        above = database.tasks.get(task.parent_task or "")
        new = NewTask(
            id=again,
            child=task.child,
            goal=task.goal,
            input=task.input,
            max_attempts=task.max_attempts,
            deadline=None if task.deadline is None else database.now() + task.deadline - task.created_at,
            parent_task=above.id if above is not None and above.open else None,
            hops=task.hops,
            traceparent=task.traceparent,
        )
        delegate(database, database.agents[task.parent], [new])
        row = database.tasks[again]
        row.retry_of, row.retries = task.id, task.retries + 1
    row = database.tasks[again]
    return TaskChange(database.task_value(row), (database.name(row.child),))


def _under(database: MemoryDatabase, by: AgentRow, id: str) -> TaskRow:
    """The task, if `by` may decide over it: who gave it or one above it, the operator, and the agents above the
    child that may control their children. Raises NoAuthority, Refused."""
    task = database.task(id)
    if by.name == OPERATOR:
        return task
    above: TaskRow | None = task
    while above is not None:
        if above.parent == by.id:
            return task
        above = database.tasks.get(above.parent_task or "")
    elder = database.agents[task.child].parent
    while elder is not None:
        if elder == by.id and by.permissions.control_children:
            return task
        elder = database.agents[elder].parent
    raise NoAuthority
