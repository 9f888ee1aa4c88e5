"""The rows of the memory database: the same columns as the SQL schema, changed in place."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final

from swarm.bounds import MailBounds
from swarm.errors import IllegalTransition
from swarm.records import (
    TASK_TRANSITIONS,
    TERMINAL_TASK_STATES,
    AgentPermissions,
    AgentRecord,
    Balance,
    Birth,
    Content,
    DeliveryState,
    DeliveryView,
    Desired,
    Ended,
    LedgerKind,
    Orphans,
    Task,
    TaskInput,
    TaskState,
)
from swarm.scaling import ScalePolicy

OPEN: Final = ("accepted", "dispatched")
ANSWERS: Final = ("result", "notice")
"""What an agent gets because of what it sent: outside of the bound of its inbox."""


@dataclass(slots=True)
class AgentRow:
    id: str
    name: str
    created_at: int
    updated_at: int
    reserved: bool = False
    planned: bool = True
    version: str = ""
    source: str = ""
    parent: str | None = None
    permissions: AgentPermissions = field(default_factory=AgentPermissions)
    roles: tuple[str, ...] = ()
    labels: tuple[str, ...] = ()
    replicas: int = 1
    planned_replicas: int | None = None
    scale: ScalePolicy | None = None
    sleep_after: float | None = None
    asleep: bool = False
    balance: Balance = "room"
    desired: Desired = "running"
    status: str = "inactive"
    granted: dict[str, bool] = field(default_factory=dict)
    """Rights as declared; `permissions` are what the parents' leave of them."""
    orphans: Orphans = "keep"
    orphaned: bool = False
    died_at: int | None = None
    birth: BirthRow | None = None
    bounds: MailBounds = field(default_factory=MailBounds)

    def plan(self) -> tuple[Any, ...]:
        """What the swarm file decides."""
        return (
            self.version,
            self.source,
            self.parent,
            self.granted,
            self.roles,
            self.labels,
            self.replicas,
            self.scale,
            self.sleep_after,
            self.balance,
            self.orphans,
            self.bounds,
        )


@dataclass(frozen=True, slots=True)
class BirthRow:
    """`of` is the id of the parent at birth, `version` that of the character that was given."""

    of: str
    version: str
    secrets: tuple[str, ...]


@dataclass(slots=True)
class MessageRow:
    id: str
    sender: str
    address: str
    room: str
    kind: LedgerKind
    content: Content
    accepted_at: int
    in_reply_to: str | None = None
    expires_at: int | None = None
    hops: int = 0
    traceparent: str | None = None
    origin: str | None = None
    deliveries: list[DeliveryRow] = field(default_factory=list)
    announced: bool = False
    requeue_of: str | None = None


@dataclass(slots=True)
class InboxCount:
    """How much waits for one agent, so that nobody has to count it."""

    messages: int = 0
    bytes: int = 0
    answers: int = 0

    def add(self, row: DeliveryRow, sign: int) -> None:
        if row.message.kind in ANSWERS:
            self.answers += sign
        else:
            self.messages += sign
            self.bytes += sign * row.bytes


@dataclass(slots=True)
class DeliveryRow:
    """`state` is changed by `move` only, which keeps the count of its inbox."""

    seq: int
    message: MessageRow
    recipient: str | None
    state: DeliveryState = "accepted"
    bytes: int = 0
    inbox: InboxCount | None = None
    attempts: int = 0
    crashes: int = 0
    reason: str | None = None
    handled_at: int | None = None
    ended_at: int | None = None
    """When it expired or died."""
    last_error: str | None = None
    requeued: tuple[str, int, str] | None = None
    """As which message, when, by whom."""
    dropped: tuple[int, str] | None = None

    def move(self, state: DeliveryState) -> None:
        if self.inbox is not None and (self.state == "accepted") != (state == "accepted"):
            self.inbox.add(self, 1 if state == "accepted" else -1)
        self.state = state

    @property
    def open(self) -> bool:
        return self.state in OPEN


@dataclass(slots=True)
class TaskRow:
    id: str
    parent: str
    child: str
    goal: str
    input: dict[str, Any]
    max_attempts: int
    created_at: int
    updated_at: int
    state: TaskState = "submitted"
    attempts: int = 0
    result: Content | None = None
    error: str | None = None
    progress: float | None = None
    note: str | None = None
    deadline: int | None = None
    parent_task: str | None = None
    hops: int = 0
    traceparent: str | None = None
    failures: int = 0
    inputs: tuple[TaskInput, ...] = ()
    wake_at: int | None = None
    retry_of: str | None = None
    retries: int = 0
    begun_at: int | None = None
    ended_at: int | None = None

    @property
    def open(self) -> bool:
        return self.state not in TERMINAL_TASK_STATES

    def touch(self, now: int) -> None:
        """Times only grow, as the database's trigger has it."""
        self.updated_at = max(self.updated_at, now)

    def become(self, state: TaskState, now: int) -> None:
        """The one way to another state. Raises IllegalTransition."""
        self.touch(now)
        if state == self.state:
            return
        if state not in TASK_TRANSITIONS[self.state]:
            raise IllegalTransition(
                f"Task {self.id} is {self.state}; it cannot become {state}.", reason="illegal_transition"
            )
        self.state = state
        if state == "working":
            self.begun_at = self.begun_at or self.updated_at
        elif state in TERMINAL_TASK_STATES:
            self.ended_at = self.updated_at


def agent_record(row: AgentRow, parent: str | None, born_of: str | None) -> AgentRecord:
    return AgentRecord(
        id=row.id,
        name=row.name,
        version=row.version,
        source=row.source,
        parent=parent,
        permissions=row.permissions,
        roles=row.roles,
        labels=row.labels,
        replicas=row.replicas,
        planned_replicas=row.planned_replicas,
        scale=row.scale,
        sleep_after=row.sleep_after,
        asleep=row.asleep,
        balance=row.balance,
        desired=row.desired,
        status="active" if row.status == "active" else "inactive",
        orphans=row.orphans,
        orphaned=row.orphaned,
        died_at=row.died_at,
        birth=None if row.birth is None or born_of is None else Birth(born_of, row.birth.secrets),
        planned=row.planned,
        created_at=row.created_at,
        updated_at=row.updated_at,
    )


def task_value(row: TaskRow, parent: str, child: str) -> Task:
    return Task(
        id=row.id,
        parent=parent,
        child=child,
        goal=row.goal,
        state=row.state,
        input=row.input,
        attempts=row.attempts,
        result=row.result,
        error=row.error,
        progress=row.progress,
        note=row.note,
        deadline=row.deadline,
        parent_task=row.parent_task,
        created_at=row.created_at,
        updated_at=row.updated_at,
        max_attempts=row.max_attempts,
        failures=row.failures,
        inputs=row.inputs,
        wake_at=row.wake_at,
        retry_of=row.retry_of,
        begun_at=row.begun_at,
        ended_at=row.ended_at,
    )


def delivery_view(row: DeliveryRow, to: str) -> DeliveryView:
    return DeliveryView(to, row.state, row.attempts, row.reason, row.handled_at)


def ended_value(row: DeliveryRow, sender: str, recipient: str) -> Ended:
    return Ended(
        delivery=row.seq,
        id=row.message.id,
        sender=sender,
        recipient=recipient,
        state="expired" if row.state == "expired" else "dead",
        reason=row.reason or "",
    )
