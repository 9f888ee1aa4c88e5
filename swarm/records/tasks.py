"""Tasks: their states, given, changed, asked about, ended."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, Literal

import msgspec

from swarm.records.messages import Content

TaskState = Literal["submitted", "working", "input-required", "completed", "failed", "canceled", "rejected"]
"""The A2A protocol's words."""
DEADLINE_PASSED: Final = "its deadline passed"
"""Why a task has failed, or a message expired, that was not done in time; the same words in SQL."""
TERMINAL_TASK_STATES: Final = frozenset({"completed", "failed", "canceled", "rejected"})
TASK_TRANSITIONS: Final[Mapping[TaskState, frozenset[TaskState]]] = {
    "submitted": frozenset({"working", "failed", "canceled", "rejected"}),
    "working": frozenset({"submitted", "input-required", "completed", "failed", "canceled", "rejected"}),
    "input-required": frozenset({"working", "failed", "canceled", "rejected"}),
    "completed": frozenset(),
    "failed": frozenset(),
    "canceled": frozenset(),
    "rejected": frozenset(),
}
"""The automaton of a task; the same as task_may_become in 0011_task_life.sql, which the contract tests compare."""
MOST_INPUTS: Final = 32
"""How often one task may ask for input."""


class TaskOutcome(msgspec.Struct, frozen=True):
    """How an attempt at a task ended, committed with the turn that did it.

    ``input-required``: it goes on when `question` is answered, with `actions` (names) to run then; `schema`
    describes the answer's data. ``failed`` and `retryable`: it goes again while it has attempts left, after
    `retry_ms`, else after 1, 2, 4 … s, 60 at most.
    """

    task: str
    state: Literal["completed", "failed", "rejected", "input-required"]
    result: Content | None = None
    error: str | None = None
    question: str | None = None
    schema: dict[str, Any] | None = None
    actions: tuple[str, ...] = ()
    retryable: bool = False
    retry_ms: int | None = None


class NewTask(msgspec.Struct, frozen=True, kw_only=True):
    """A task to be accepted. Idempotent by `id`. `deadline` is a moment."""

    id: str
    child: str
    goal: str
    input: dict[str, Any] = {}
    deadline: int | None = None
    max_attempts: int = 3
    parent_task: str | None = None
    hops: int = 0
    traceparent: str | None = None


class TaskInput(msgspec.Struct, frozen=True, kw_only=True):
    """A question that a task asked, and its answer when it has one. `actions` asked it and run again then."""

    question: str
    schema: dict[str, Any] | None = None
    actions: tuple[str, ...] = ()
    asked_at: int = 0
    answer: Content | None = None
    answered_at: int = 0
    answered_by: str = ""


class Task(msgspec.Struct, frozen=True, kw_only=True):
    """A row of the task ledger. `attempts` counts dispatches, `failures` those of them that crashed or failed and
    went again; `progress` is a percentage. `wake_at`: when it goes again by itself, or is given up."""

    id: str
    parent: str
    child: str
    goal: str
    state: TaskState
    input: dict[str, Any] = {}
    attempts: int = 0
    result: Content | None = None
    error: str | None = None
    progress: float | None = None
    note: str | None = None
    deadline: int | None = None
    parent_task: str | None = None
    created_at: int = 0
    updated_at: int = 0
    max_attempts: int = 3
    failures: int = 0
    inputs: tuple[TaskInput, ...] = ()
    wake_at: int | None = None
    retry_of: str | None = None
    begun_at: int | None = None
    ended_at: int | None = None

    @property
    def ended(self) -> bool:
        return self.state in TERMINAL_TASK_STATES

    @property
    def question(self) -> TaskInput | None:
        """What it waits for an answer to."""
        return self.inputs[-1] if self.state == "input-required" and self.inputs else None


class TaskChange(msgspec.Struct, frozen=True):
    """A task after somebody decided over it, and the agents (names) that should hear of it."""

    task: Task
    names: tuple[str, ...] = ()
