"""Tasks, as the ledger in memory takes them, changes them and shows them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from swarm.records import Content, NewTask, Task, TaskChange, TaskState
from swarm.stores.checks import check_id, check_tasks, check_text, to_json
from swarm.stores.memory.database import MemoryDatabase
from swarm.stores.memory.delegation import delegate
from swarm.stores.memory.rows import AgentRow
from swarm.stores.memory.task_life import answer as answer_task
from swarm.stores.memory.task_life import cancel as cancel_task
from swarm.stores.memory.task_life import retry as retry_task
from swarm.stores.memory.task_life import wake


class TaskPart:
    """What `MemoryLedger` has of it."""

    def _reading(self) -> MemoryDatabase:
        raise NotImplementedError

    def _writing(self) -> MemoryDatabase:
        raise NotImplementedError

    def _sender(self, name: str) -> AgentRow:
        raise NotImplementedError

    async def delegate(self, sender: str, tasks: Sequence[NewTask]) -> list[Task]:
        check_tasks(tasks)
        database = self._writing()
        return delegate(database, self._sender(sender), tasks)

    async def cancel(self, by: str, task: str, reason: str = "") -> TaskChange:
        check_text("The reason", reason)
        return cancel_task(self._writing(), self._sender(by), check_id("task", task), reason)

    async def answer(self, by: str, task: str, answer: Content) -> TaskChange:
        return answer_task(self._writing(), self._sender(by), check_id("task", task), answer)

    async def retry(self, by: str, task: str) -> TaskChange:
        return retry_task(self._writing(), self._sender(by), check_id("task", task))

    async def wake_tasks(self) -> list[str]:
        return wake(self._writing())

    async def ended_of(self, deliveries: Sequence[int]) -> dict[int, str]:
        known = self._reading().deliveries
        rows = [known[seq] for seq in deliveries if seq in known]
        return {row.seq: row.reason or "" for row in rows if row.state in ("expired", "dead")}

    async def tasks(
        self, *, limit: int = 100, state: TaskState | None = None, agent: str | None = None
    ) -> list[Task]:
        database = self._reading()
        found = [
            database.task_value(task)
            for task in sorted(database.tasks.values(), key=lambda t: (t.created_at, t.id), reverse=True)
            if state is None or task.state == state
        ]
        found = [task for task in found if agent is None or agent in (task.parent, task.child)]
        return [_without_what_is_large(task) for task in found[:limit]]

    async def task(self, id: str) -> Task | None:
        database = self._reading()
        row = database.tasks.get(check_id("task", id))
        return database.task_value(row) if row else None

    async def task_tree(self, id: str) -> list[Task]:
        database = self._reading()
        tree = [check_id("task", id)]
        for above in tree:  # grows while it is read
            tree += [task.id for task in database.tasks.values() if task.parent_task == above]
        rows = sorted((database.tasks[id] for id in tree[1:]), key=lambda t: (t.created_at, t.id))
        return [msgspec.structs.replace(database.task_value(row), result=None) for row in rows[:1000]]

    async def subtasks(self, id: str) -> list[Task]:
        database, above = self._reading(), check_id("task", id)
        rows = sorted(
            (t for t in database.tasks.values() if t.parent_task == above), key=lambda t: (t.created_at, t.id)
        )
        return [database.task_value(row) for row in rows]


def _without_what_is_large(task: Task) -> Task:
    large: dict[str, Any] = {
        name: empty
        for name, empty in (("result", None), ("input", {}))
        if len(to_json("The task", getattr(task, name))) > 4000
    }
    return msgspec.structs.replace(task, **large) if large else task
