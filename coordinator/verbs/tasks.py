"""Tasks: given by an operator or for a known agent, looked at, waited for."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from msgspec import Meta

from coordinator.delegation import Delegation
from coordinator.hierarchy import Hierarchy
from coordinator.verbs.verb import Args, IdArgs, Limit, Text, Verbs, Wait


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


class LimitArgs(Args):
    limit: Limit = 100


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
            "task_ls": (LimitArgs, self.task_ls),
            "task_show": (IdArgs, self.task_show),
            "task_wait": (TaskWaitArgs, self.task_wait),
        }

    async def delegate(self, args: DelegateArgs) -> dict[str, Any]:
        """`{"id", "state", "attempts", "result", "error"}`; with `wait`, when it has ended or `timeout` is over."""
        task = await self._delegation.delegate(
            self._hierarchy.on_behalf_of(args.sender),
            args.agent,
            args.goal,
            input=args.input,
            deadline_seconds=args.deadline,
            max_attempts=args.max_attempts,
            id=args.id,
        )
        return await self._delegation.wait(task["id"], args.timeout) if args.wait else task

    async def task_ls(self, args: LimitArgs) -> list[dict[str, Any]]:
        return await self._delegation.list(args.limit)

    async def task_show(self, args: IdArgs) -> dict[str, Any]:
        return await self._delegation.show(args.id)

    async def task_wait(self, args: TaskWaitArgs) -> dict[str, Any]:
        return await self._delegation.wait(args.id, args.timeout)
