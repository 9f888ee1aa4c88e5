"""Delegation: tasks for children, as people see them, and waiting for their end.

The ledger decides: authority in the transaction that accepts a task, one terminal state, attempts, deadlines.
A task's message goes the way of every message; this room never dispatches anything itself.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from hashlib import sha256
from typing import Any, Final

import msgspec

from bus.envelope import MAX_BYTES
from coordinator.progress import Progress
from coordinator.router import Router
from swarm.errors import unknown_task
from swarm.ids import new_id
from swarm.ledger import Ledger
from swarm.records import TERMINAL_TASK_STATES, Content, NewTask, Task, TaskChange, TaskState

ROOM_BYTES: Final = 2048
"""Of an envelope, for all but its body."""


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

    async def wait(self, id: str, seconds: float, *, or_question: bool = False) -> dict[str, Any]:
        """The task when it has ended, with `or_question` also when it asks for input, or as it is after `seconds`.
        Raises Refused when there is none."""

        async def look() -> Task:
            return await self._task(id)

        def is_over(task: Task) -> bool:
            return task.state in TERMINAL_TASK_STATES or (or_question and task.state == "input-required")

        return brief(await self._progress.until(look, is_over, seconds))

    async def show(self, id: str) -> dict[str, Any]:
        """A task in full, `subtasks` nested below it as they were delegated, without their results, which may be a
        megabyte each: one look at a task gives that task's result."""
        task = await self._task(id)
        below: dict[str | None, list[Task]] = {}
        for sub in await self._ledger.task_tree(task.id):
            below.setdefault(sub.parent_task, []).append(sub)
        return _fitting(_nested(task, below))

    async def list(
        self, limit: int, state: TaskState | None = None, agent: str | None = None
    ) -> list[dict[str, Any]]:
        return [full(task) for task in await self._ledger.tasks(limit=limit, state=state, agent=agent)]

    async def watch(self, id: str, seen: str, seconds: float) -> dict[str, Any]:
        """The task and its subtasks' states by number when `seen`, the `mark` of the look before, holds no more, when
        it has ended, or as it is after `seconds`. The result comes with the end."""

        async def look() -> dict[str, Any]:
            task = await self._task(id)
            states = Counter(sub.state for sub in await self._ledger.task_tree(task.id))
            shown = full(task) | {"subtasks": dict(sorted(states.items()))}
            mark = f"{task.updated_at}.{task.state}.{task.progress}.{task.note}.{sorted(states.items())}"
            return _fitting(shown) | {"mark": sha256(mark.encode()).hexdigest()[:16]}

        return await self._progress.until(
            look, lambda one: one["mark"] != seen or one["state"] in TERMINAL_TASK_STATES, seconds
        )

    async def cancel(self, by: str, id: str, reason: str) -> dict[str, Any]:
        """Cancel a task and all below it; the handlers that run them are told. Raises NoAuthority."""
        change = await self._ledger.cancel(by, id, reason)
        self._router.recall.set()
        self._tell(change)
        return _fitting(full(change.task))

    async def answer(self, by: str, id: str, answer: Content) -> dict[str, Any]:
        """Answer what a task asked for. Raises NoAuthority, Refused when it asks for nothing."""
        change = await self._ledger.answer(by, id, answer)
        self._tell(change)
        return _fitting(full(change.task))

    async def retry(self, by: str, id: str) -> dict[str, Any]:
        """Give a task that did not complete once more: the new task. Raises NoAuthority, Refused."""
        change = await self._ledger.retry(by, id)
        self._tell(change)
        return _fitting(full(change.task))

    def _tell(self, change: TaskChange) -> None:
        self._router.ring(change.names)
        self._progress.changed()

    async def _task(self, id: str) -> Task:
        task = await self._ledger.task(id)
        if task is None:
            raise unknown_task(id)
        return task


def brief(task: Task) -> dict[str, Any]:
    """What ``swarm delegate`` prints; `result` is `{"text", "data"}` or None."""
    return {
        "id": task.id,
        "state": task.state,
        "attempts": task.attempts,
        "result": None if task.result is None else {"text": task.result.text, "data": task.result.data},
        "error": task.error,
        "question": None if task.question is None else task.question.question,
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
        "begun_at": task.begun_at,
        "ended_at": task.ended_at,
        "max_attempts": task.max_attempts,
        "failures": task.failures,
        "wake_at": task.wake_at,
        "retry_of": task.retry_of,
        "inputs": [
            {
                "question": told.question,
                "schema": told.schema,
                "answer": None
                if told.answer is None
                else {"text": told.answer.text, "data": told.answer.data},
                "answered_by": told.answered_by or None,
            }
            for told in task.inputs
        ],
    }


def _nested(task: Task, below: Mapping[str | None, Sequence[Task]]) -> dict[str, Any]:
    return full(task) | {"subtasks": [_nested(sub, below) for sub in below.get(task.id, ())]}


def _fitting(task: dict[str, Any]) -> dict[str, Any]:
    """One message's worth: what does not fit beside the result goes without its input, then its subtasks."""
    for name, empty in (("input", {}), ("inputs", []), ("subtasks", [])):
        if len(msgspec.msgpack.encode(task)) <= MAX_BYTES - ROOM_BYTES:
            return task
        if name in task:
            task = task | {name: empty, "left_out": [*task.get("left_out", []), name]}
    return task
