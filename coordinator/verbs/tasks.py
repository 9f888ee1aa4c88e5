"""Tasks: given by an operator or for a known agent, looked at, waited for."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from msgspec import Meta

from coordinator.delegation import Delegation
from coordinator.hierarchy import Hierarchy
from coordinator.verbs.verb import Args, IdArgs, Limit, Text, Verbs, Wait
from swarm.records import Content, TaskState


class DelegateArgs(Args):
    agent: str
    goal: Text
    input: dict[str, Any] = msgspec.field(default_factory=dict)
    deadline: Wait | None = None
    wait: bool = False
    timeout: Wait = 300.0
    max_attempts: Annotated[int, Meta(ge=1, le=100)] = 3
    id: str | None = None
    sender: str | None = msgspec.field(name="as", default=None)


class ListArgs(Args):
    limit: Limit = 100
    state: TaskState | None = None
    agent: str | None = None


class CancelArgs(Args):
    id: str
    reason: Annotated[str, Meta(max_length=1000)] = ""
    sender: str | None = msgspec.field(name="as", default=None)


class AnswerArgs(Args):
    id: str
    text: Text = ""
    data: dict[str, Any] = msgspec.field(default_factory=dict)
    sender: str | None = msgspec.field(name="as", default=None)


class RetryArgs(Args):
    id: str
    sender: str | None = msgspec.field(name="as", default=None)


class WatchArgs(Args):
    id: str
    seen: str = ""
    timeout: Annotated[float, Meta(ge=0, le=30)] = 10.0


class TaskWaitArgs(Args):
    id: str
    timeout: Wait = 300.0


class Tasks:
    def __init__(self, delegation: Delegation, hierarchy: Hierarchy) -> None:
        self._delegation = delegation
        self._hierarchy = hierarchy

    def verbs(self) -> Verbs:
        return {
            "delegate": (DelegateArgs, self.delegate),
            "task_ls": (ListArgs, self.task_ls),
            "task_show": (IdArgs, self.task_show),
            "task_wait": (TaskWaitArgs, self.task_wait),
            "task_watch": (WatchArgs, self.task_watch),
            "task_cancel": (CancelArgs, self.task_cancel),
            "task_answer": (AnswerArgs, self.task_answer),
            "task_retry": (RetryArgs, self.task_retry),
        }

    async def delegate(self, args: DelegateArgs) -> dict[str, Any]:
        """`{"id", "state", "attempts", "result", "error", "question"}`; with `wait`, when it has ended, asks for input
        which nobody but the one that waits may know of, or `timeout` is over."""
        task = await self._delegation.delegate(
            self._hierarchy.on_behalf_of(args.sender),
            args.agent,
            args.goal,
            input=args.input,
            deadline_seconds=args.deadline,
            max_attempts=args.max_attempts,
            id=args.id,
        )
        if not args.wait:
            return task
        return await self._delegation.wait(task["id"], args.timeout, or_question=True)

    async def task_ls(self, args: ListArgs) -> list[dict[str, Any]]:
        """Also those of an agent that is no longer in the swarm. Raises UnknownAgent for one that never was."""
        tasks = await self._delegation.list(args.limit, args.state, args.agent)
        if not tasks:
            self._hierarchy.on_behalf_of(args.agent)
        return tasks

    async def task_show(self, args: IdArgs) -> dict[str, Any]:
        return await self._delegation.show(args.id)

    async def task_wait(self, args: TaskWaitArgs) -> dict[str, Any]:
        return await self._delegation.wait(args.id, args.timeout)

    async def task_watch(self, args: WatchArgs) -> dict[str, Any]:
        return await self._delegation.watch(args.id, args.seen, args.timeout)

    async def task_cancel(self, args: CancelArgs) -> dict[str, Any]:
        by = self._hierarchy.on_behalf_of(args.sender)
        return await self._delegation.cancel(by, args.id, args.reason)

    async def task_answer(self, args: AnswerArgs) -> dict[str, Any]:
        by = self._hierarchy.on_behalf_of(args.sender)
        return await self._delegation.answer(by, args.id, Content(args.text, args.data))

    async def task_retry(self, args: RetryArgs) -> dict[str, Any]:
        return await self._delegation.retry(self._hierarchy.on_behalf_of(args.sender), args.id)
