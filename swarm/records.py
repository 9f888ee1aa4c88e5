"""What the ledger and the memory hold, as frozen values. The same words stand in the SQL schema.

Ids are strings: UUIDs in their usual form (version 7 for rows, derived ones where a retry must find the
same row again). Times are Unix milliseconds. Agents are named by their name in the swarm, which is
also their token in subjects; the id is the character's.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, Literal

import msgspec

from swarm.bounds import MailBounds
from swarm.limits import AgentLimits

OPERATOR: Final = "operator"
"""The person at the command line; a row in `agents` so that a sender is always somebody."""
COORDINATOR: Final = "coordinator"
RESERVED_NAMES: Final = frozenset({OPERATOR, COORDINATOR, "node", "all", "parent", "children", "role"})

DeliveryState = Literal["accepted", "dispatched", "handled", "expired", "dead"]
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
LedgerKind = Literal["tell", "announce", "task", "result", "notice"]
Balance = Literal["room", "round-robin", "least-loaded"]
Desired = Literal["running", "stopped"]
Orphans = Literal["stop", "reparent", "keep"]
"""What becomes of an agent's children when it dies: they stop until it returns, go to its own parent, or stay."""
RoomState = Literal["present", "followed", "muted"]
"""How an agent takes part in a room: it is there, it follows (answers all), or it reads and keeps quiet."""


class Content(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a message says: `text` for people and models, `data` for programs. JSON-able throughout."""

    text: str = ""
    data: dict[str, Any] = {}
    metadata: dict[str, Any] = {}


class AgentPermissions(msgspec.Struct, frozen=True):
    """What an agent may do to its children, and they to it (F10: the defaults of a child); and whether it may
    announce: speak to all, to a group, or to all that offer a role."""

    create_children: bool = False
    control_children: bool = False
    access_parent_memory: bool = True
    announce: bool = True


CHILD_PERMISSIONS: Final = AgentPermissions(announce=False)
"""What a child that is made at run time may do unless it was given more; the same defaults stand in SQL."""


class AgentPlan(msgspec.Struct, frozen=True, kw_only=True):
    """An agent as the swarm file wants it. `character` is the public document: it holds no secrets."""

    name: str
    id: str
    character: dict[str, Any]
    version: str
    source: str = ""
    parent: str | None = None
    permissions: AgentPermissions = AgentPermissions()
    roles: tuple[str, ...] = ()
    replicas: int = 1
    balance: Balance = "room"
    orphans: Orphans = "keep"
    limits: AgentLimits | None = None
    """None: as they are, at first those of everybody."""
    bounds: MailBounds = MailBounds()


class HierarchyLimits(msgspec.Struct, frozen=True):
    """`depth` counts generations below a root, `children` those of one parent."""

    depth: int = 8
    children: int = 100


DEFAULT_LIMITS: Final = HierarchyLimits()


class NewChild(msgspec.Struct, frozen=True, kw_only=True):
    """A child to be made at run time. `character` is its public document and `version` that of it; `source` is a
    folder in the project that has its plugins, "" for none. `permissions` may name some rights; the others are
    F10's. `secrets` are names: their values are handed down by the parent where they are, and travel nowhere."""

    name: str
    id: str
    character: dict[str, Any]
    version: str
    source: str = ""
    permissions: dict[str, bool] = {}
    orphans: Orphans = "keep"
    roles: tuple[str, ...] = ()
    secrets: tuple[str, ...] = ()


class Birth(msgspec.Struct, frozen=True):
    """That an agent was spawned: by whom (what it inherits comes from there, whoever is its parent later), and
    the names of the secrets that it was to get."""

    of: str
    secrets: tuple[str, ...] = ()


class Family(msgspec.Struct, frozen=True):
    """An agent's place: ancestors from its parent up to the root, the subtree by generations without itself."""

    parent: str | None
    children: tuple[str, ...]
    ancestors: tuple[str, ...]
    subtree: tuple[str, ...]


class AgentRecord(msgspec.Struct, frozen=True, kw_only=True):
    """A known agent: registered, whether or not an instance of it lives."""

    id: str
    name: str
    version: str
    source: str = ""
    parent: str | None = None
    permissions: AgentPermissions = AgentPermissions()
    roles: tuple[str, ...] = ()
    replicas: int = 1
    balance: Balance = "room"
    desired: Desired = "running"
    status: Literal["active", "inactive"] = "inactive"
    orphans: Orphans = "keep"
    orphaned: bool = False
    """Stopped because its parent died; it starts again when the parent does."""
    died_at: int | None = None
    """Since when it is dead and its orphans are dealt with."""
    birth: Birth | None = None
    planned: bool = True
    """Whether it is in the swarm; not when it was taken out of the file, or removed."""
    created_at: int = 0
    updated_at: int = 0


class Outgoing(msgspec.Struct, frozen=True, kw_only=True):
    """A message to be accepted. `to` is an address: a name, an id, ``role:x``, ``parent``, ``children``,
    ``all``, ``group:x``. `id` is minted before the first try, so that trying again never makes a second message."""

    id: str
    to: str
    room: str
    content: Content
    kind: LedgerKind = "tell"
    in_reply_to: str | None = None
    expires_at: int | None = None
    hops: int = 0
    origin: str | None = None
    """The id of the message that began this conversation; None: this one does. Where the ledger has the message
    because of which this one is sent, it sets both itself."""
    traceparent: str | None = None


class Receipt(msgspec.Struct, frozen=True):
    """The message is accepted: committed, with these recipients (names) fixed."""

    id: str
    recipients: tuple[str, ...]


class Dispatch(msgspec.Struct, frozen=True, kw_only=True):
    """A delivery claimed by the coordinator, on its way to one instance of `recipient`.

    `delivery` is the row's number: deliveries of one (sender, room, recipient) are in order by it.
    `attempt` counts dispatches from 1; `crashes` counts the recipients that died with it in hand.
    """

    delivery: int
    id: str
    sender: str
    recipient: str
    room: str
    kind: LedgerKind
    content: Content
    attempt: int
    crashes: int = 0
    in_reply_to: str | None = None
    expires_at: int | None = None
    hops: int = 0
    origin: str | None = None
    traceparent: str | None = None
    accepted_at: int = 0


class Memory(msgspec.Struct, frozen=True, kw_only=True):
    """Something an agent remembers in a room. `entity` is who said or did it (a name)."""

    id: str
    room: str
    entity: str
    content: Content
    kind: str = "message"
    created_at: int = 0


class Found(msgspec.Struct, frozen=True):
    """A memory that a search found. `score` lies in 0..1; scores of two different searches do not compare."""

    memory: Memory
    score: float


class Room(msgspec.Struct, frozen=True, kw_only=True):
    """A room that an agent takes part in. `participants` are names, sorted, itself among them."""

    id: str
    state: RoomState
    joined_at: int
    participants: tuple[str, ...]

    @property
    def direct(self) -> bool:
        """Two talk here; more are a group."""
        return len(self.participants) == 2


class Participant(msgspec.Struct, frozen=True, kw_only=True):
    """An agent in a room, by name."""

    name: str
    state: RoomState
    joined_at: int


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


class Turn(msgspec.Struct, frozen=True, kw_only=True):
    """All that one turn leaves behind, committed at once or not at all.

    `delivery` is None for an ask, which is not in the ledger: then only memories and messages are
    written. `attempt` fences tasks: a stale attempt changes nothing.
    """

    delivery: int | None
    attempt: int = 0
    instance: str = ""
    memories: tuple[Memory, ...] = ()
    outgoing: tuple[Outgoing, ...] = ()
    outcome: TaskOutcome | None = None
    dead: str | None = None
    """Given up: the delivery dies with this reason, its task fails, its sender gets a notice."""


class Committed(msgspec.Struct, frozen=True):
    """What became of a turn at commit.

    ``committed``     everything is written; ring for `recipients` (names)
    ``duplicate``     the delivery was handled before; nothing written
    ``out_of_order``  an earlier delivery of this (sender, room) is not handled yet; nothing written
    ``stale``         the delivery expired or died, or a newer attempt at the task has begun; nothing written
    """

    status: Literal["committed", "duplicate", "out_of_order", "stale"]
    recipients: tuple[str, ...] = ()
    dead: tuple[str, ...] = ()
    """The ids of outgoing messages whose address names nobody; a notice of each is on its way to the sender."""


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


class DeliveryView(msgspec.Struct, frozen=True):
    to: str
    state: DeliveryState
    attempts: int
    reason: str | None = None
    handled_at: int | None = None


class MessageView(msgspec.Struct, frozen=True, kw_only=True):
    """A message and what became of each delivery of it."""

    id: str
    sender: str
    to: str
    room: str
    kind: LedgerKind
    content: Content
    accepted_at: int
    deliveries: tuple[DeliveryView, ...] = ()


class InboxView(msgspec.Struct, frozen=True, kw_only=True):
    """An agent's offline queue: what waits, how long the oldest has, and the first messages in order. `waiting`
    counts all; `bytes` (of content as JSON) and the bounds are for messages and tasks: results and notices are
    outside of them."""

    agent: str
    waiting: int
    in_flight: int
    bytes: int = 0
    bounds: MailBounds = MailBounds()
    oldest_at: int | None = None
    first: tuple[MessageView, ...] = ()


class Ended(msgspec.Struct, frozen=True, kw_only=True):
    """A delivery that the ledger ended without its being handled; its sender has been sent a notice."""

    delivery: int
    id: str
    sender: str
    recipient: str
    state: Literal["expired", "dead"]
    reason: str
