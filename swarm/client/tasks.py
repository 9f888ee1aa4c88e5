"""What an operator says about tasks: given, looked at, followed, canceled, answered, given again."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Mapping
from typing import Any, Final

from bus.errors import TooLate
from swarm.client.calls import QUERY_SECONDS, Calls, on_behalf_of
from swarm.ids import new_id
from swarm.records import TERMINAL_TASK_STATES

WATCH_SECONDS: Final = 10.0
"""One look of `watch`; the coordinator answers as soon as something has changed."""


class TaskCalls(Calls):
    """`Swarm` has them."""

    async def delegate(
        self,
        agent: str,
        goal: str,
        *,
        parent: str | None = None,
        input: Mapping[str, Any] | None = None,
        deadline: float | None = None,
        max_attempts: int | None = None,
        wait: float | None = None,
        id: str | None = None,
    ) -> dict[str, Any]:
        """``{"id", "state", "attempts", "result", "error", "question"}``; with `wait` seconds, when it has ended or
        asks for input, if that comes by then. `parent` None: the operator is the authority. `deadline` in seconds
        from now."""
        return await self._call(
            "delegate",
            QUERY_SECONDS + (wait or 0.0),
            agent=agent,
            goal=goal,
            input=input,
            deadline=deadline,
            max_attempts=max_attempts,
            wait=wait is not None,
            timeout=wait,
            id=id or new_id(),
            **on_behalf_of(parent),
        )

    async def tasks(
        self, *, limit: int = 100, state: str | None = None, agent: str | None = None
    ) -> list[dict[str, Any]]:
        """The newest first; of one state, or given by or to one agent."""
        return await self._rows("task_ls", limit=limit, state=state, agent=agent)

    async def task(self, id: str, *, wait: float | None = None) -> dict[str, Any]:
        """With `wait` seconds: at its end, if it comes by then."""
        if wait is None:
            return await self._call("task_show", id=id)
        return await self._call("task_wait", QUERY_SECONDS + wait, id=id, timeout=wait)

    async def watch(self, id: str, *, timeout: float = 3600.0) -> AsyncIterator[dict[str, Any]]:
        """The task as it is now and at every change, its `subtasks` counted by state, until it has ended. Raises
        TooLate after `timeout` seconds."""
        deadline = time.monotonic() + timeout
        seen: str | None = None
        while True:
            left = max(0.0, min(WATCH_SECONDS, deadline - time.monotonic()))
            task = await self._call("task_watch", QUERY_SECONDS + left, id=id, seen=seen, timeout=left)
            if task["mark"] != seen:
                yield task
            seen = task["mark"]
            if task["state"] in TERMINAL_TASK_STATES:
                return
            if time.monotonic() >= deadline:
                raise TooLate(f"Task {id} is still {task['state']} after {timeout:g} s; watch it again.")

    async def cancel(self, id: str, *, reason: str = "", sender: str | None = None) -> dict[str, Any]:
        """Cancel a task and all below it; one that has ended stays as it is. `sender` None: the operator."""
        return await self._call("task_cancel", id=id, reason=reason, **on_behalf_of(sender))

    async def answer(
        self, id: str, text: str = "", *, data: Mapping[str, Any] | None = None, sender: str | None = None
    ) -> dict[str, Any]:
        """Answer what a task asked for; it goes on at once."""
        return await self._call("task_answer", id=id, text=text, data=data, **on_behalf_of(sender))

    async def retry(self, id: str, *, sender: str | None = None) -> dict[str, Any]:
        """Give a task that failed, was canceled or rejected once more: the new task, its `retry_of` the old one."""
        return await self._call("task_retry", id=id, **on_behalf_of(sender))
