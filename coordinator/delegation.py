"""Delegation: tasks for children, as people see them, and waiting for their end.

The ledger decides: authority in the transaction that accepts a task, one terminal state, attempts, deadlines.
A task's message goes the way of every message; this room never dispatches anything itself.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from bus.errors import Refused
from coordinator.progress import Progress
from coordinator.router import Router
from swarm.ids import new_id
from swarm.ledger import Ledger
from swarm.records import TERMINAL_TASK_STATES, NewTask, Task


class Delegation:
    def __init__(self, ledger: Ledger, router: Router, progress: Progress) -> None:
        self._ledger = ledger
        self._router = router
        self._progress = progress

    async def delegate(
        self,
        parent: str,
        child: str,
        goal: str,
        *,
        input: Mapping[str, Any],
        deadline_seconds: float | None,
        max_attempts: int,
        id: str | None,
    ) -> dict[str, Any]:
        """Accept a task of `parent` for `child`. Raises UnknownAgent and NoAuthority."""
        deadline = None if deadline_seconds is None else int((time.time() + deadline_seconds) * 1000)
        task = NewTask(
            id=id or new_id(),
            child=child,
            goal=goal,
            input=dict(input),
            deadline=deadline,
            max_attempts=max_attempts,
        )
        [accepted] = await self._ledger.delegate(parent, [task])
        self._router.ring((accepted.child,))
        return brief(accepted)

    async def wait(self, id: str, seconds: float) -> dict[str, Any]:
        """The task when it has ended, or as it is after `seconds`. Raises Refused when there is none."""

        async def look() -> Task:
            return await self._task(id)

        return brief(
            await self._progress.until(look, lambda task: task.state in TERMINAL_TASK_STATES, seconds)
        )

    async def show(self, id: str) -> dict[str, Any]:
        """A task in full, with what was delegated in its course."""
        task = await self._task(id)
        # Without their results, which may be a megabyte each: one look at a task gives that task's result.
        subtasks = [full(sub) | {"result": None} for sub in await self._ledger.subtasks(id)]
        return full(task) | {"subtasks": subtasks}

    async def list(self, limit: int) -> list[dict[str, Any]]:
        return [full(task) for task in await self._ledger.tasks(limit=limit)]

    async def _task(self, id: str) -> Task:
        task = await self._ledger.task(id)
        if task is None:
            raise Refused(f"There is no task {id}; swarm task ls shows the newest.", reason="unknown_task")
        return task


def brief(task: Task) -> dict[str, Any]:
    """What ``swarm delegate`` prints; `result` is `{"text", "data"}` or None."""
    return {
        "id": task.id,
        "state": task.state,
        "attempts": task.attempts,
        "result": None if task.result is None else {"text": task.result.text, "data": task.result.data},
        "error": task.error,
    }


def full(task: Task) -> dict[str, Any]:
    return brief(task) | {
        "parent": task.parent,
        "child": task.child,
        "goal": task.goal,
        "input": task.input,
        "progress": task.progress,
        "note": task.note,
        "deadline": task.deadline,
        "parent_task": task.parent_task,
        "created_at": task.created_at,
        "updated_at": task.updated_at,
    }
