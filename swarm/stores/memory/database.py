"""The tables in memory and what may be done to them: the rules of `swarm/sql/migrations`, in Python.

Nothing here awaits, so each method is a transaction; one that raises has changed nothing. What a real
database copies, this copies too: content and input go through JSON, so that nobody shares a dict with it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from hashlib import md5
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

import msgspec

from bus.envelope import MAX_HOPS
from swarm.errors import StoreDown, UnknownAgent, unknown_task
from swarm.records import (
    COORDINATOR,
    OPERATOR,
    Content,
    Desired,
    HierarchyLimits,
    LedgerKind,
    Memory,
    RoomState,
    Task,
    TaskState,
)
from swarm.stores.checks import to_json
from swarm.stores.memory.rows import AgentRow, DeliveryRow, InboxCount, MessageRow, TaskRow, task_value
from swarm.stores.memory.shelf import Shelf
from swarm.stores.memory.storms import Storms

if TYPE_CHECKING:
    from swarm.stores.memory.ledger import MemoryLedger
    from swarm.stores.memory.store import MemoryStore

_content: Final = msgspec.json.Decoder(Content)


class MemoryDatabase:
    """One for a swarm; open stores and ledgers on it.

    `clock` gives Unix seconds, so that a test may turn it. `down = True` makes every call raise StoreDown.
    """

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self.down = False
        self.agents: dict[str, AgentRow] = {}
        self.names: dict[str, AgentRow] = {}
        self.characters: dict[str, dict[str, dict[str, Any]]] = {}
        """By agent id, then by version; the current version last."""
        self.messages: dict[tuple[str, str], MessageRow] = {}
        self.deliveries: dict[int, DeliveryRow] = {}
        self.open: dict[str, dict[int, DeliveryRow]] = {}
        """By recipient: its deliveries that are not ended, in order."""
        self.groups: dict[str, set[str]] = {}
        """By name: the ids of its members."""
        self.inboxes: dict[str, InboxCount] = {}
        """By agent id."""
        self.tasks: dict[str, TaskRow] = {}
        self.shelves: dict[str, Shelf] = {}
        self.embeddings: dict[tuple[str, str], tuple[str, tuple[float, ...]]] = {}
        """By agent id and memory id: the model and its vector at length 1."""
        self.rooms: dict[str, dict[str, tuple[RoomState, int]]] = {}
        """By room, then by agent id: how it takes part, and since when."""
        self.pruned: dict[str, int] = {}
        """How many rows were forgotten, by what they were."""
        self.limits = HierarchyLimits()
        self.lease_holder: str | None = None
        self.lease_epoch = 0
        self.lease_until = 0
        self._seq = 0
        self.storms = Storms(self, self.now)
        for number, name in enumerate((OPERATOR, COORDINATOR), 1):
            row = AgentRow(
                str(UUID(int=number)), name, self.now(), self.now(), reserved=True, desired="stopped"
            )
            self.agents[row.id] = self.names[name] = row

    def store(self, agent: str) -> MemoryStore:
        """The store of one agent, by name. It must be provisioned before it is used."""
        from swarm.stores.memory.store import MemoryStore

        return MemoryStore(self, agent)

    def ledger(self) -> MemoryLedger:
        from swarm.stores.memory.ledger import MemoryLedger

        return MemoryLedger(self)

    def now(self) -> int:
        return int(self._clock() * 1000)

    def check_up(self) -> None:
        if self.down:
            raise StoreDown(
                "The database does not answer; check that it runs, then try again.", reason="store_down"
            )

    # ── agents ────────────────────────────────────────────────────────────────────────────────────
    def add_agent(self, name: str, id: str) -> AgentRow:
        """A row without a plan; `MemoryLedger.provision` makes it what the swarm file says."""
        row = AgentRow(id.lower(), name, self.now(), self.now())
        self.agents[row.id] = self.names[name] = row
        return row

    def want(self, row: AgentRow, desired: Desired) -> None:
        if row.desired != desired or row.orphaned:
            row.desired, row.orphaned, row.updated_at = desired, False, self.now()

    def agent(self, name: str) -> AgentRow:
        """Raises UnknownAgent, also for reserved names: they take no mail."""
        row = self.names.get(name)
        if row is None or row.reserved:
            raise self.unknown(name)
        return row

    def unknown(self, address: str) -> UnknownAgent:
        others = [row for row in self.agents.values() if not row.reserved]
        roles = {f"role:{role}" for row in others if row.planned for role in row.roles}
        groups = {f"group:{group}" for group in self.groups}
        return UnknownAgent(address, sorted({row.name for row in others} | roles | groups))

    def is_group(self, address: str) -> bool:
        return address.startswith("group:") and address[6:] in self.groups

    def inbox(self, agent: str) -> InboxCount:
        """By id."""
        return self.inboxes.setdefault(agent, InboxCount())

    def name(self, id: str) -> str:
        return self.agents[id].name

    def addressed(self, sender: AgentRow, address: str) -> list[AgentRow]:
        """The agents behind an address, by name, all of a role, the sender left out of groups."""
        others = sorted(
            (a for a in self.agents.values() if a.planned and not a.reserved and a is not sender),
            key=lambda a: a.name,
        )
        if address == "all":
            return others
        if address == "children":
            return [a for a in others if a.parent == sender.id]
        if address == "parent":
            return [self.agents[sender.parent]] if sender.parent else []
        if address.startswith("group:"):
            members = self.groups.get(address[6:], set())
            return [a for a in others if a.id in members]
        if address.startswith("role:"):
            return [a for a in others if address[5:] in a.roles]
        row = self.names.get(address) or self.agents.get(address.lower())
        return [row] if row is not None and not row.reserved else []

    # ── rows of messages ──────────────────────────────────────────────────────────────────────────
    def put_message(
        self,
        sender: AgentRow,
        id: str,
        address: str,
        room: str,
        kind: LedgerKind,
        content: Content,
        *,
        in_reply_to: str | None = None,
        expires_at: int | None = None,
        hops: int = 0,
        origin: str | None = None,
        traceparent: str | None = None,
    ) -> MessageRow:
        row = MessageRow(
            id,
            sender.id,
            address,
            room,
            kind,
            content,
            self.now(),
            in_reply_to,
            expires_at,
            hops,
            traceparent,
            origin,
        )
        self.messages[id, sender.id] = row
        return row

    def messages_of(self, id: str) -> Iterator[MessageRow]:
        """Two agents may have used one id."""
        return (row for (known, _), row in self.messages.items() if known == id)

    def put_delivery(
        self,
        message: MessageRow,
        recipient: str | None,
        *,
        attempts: int = 0,
        bytes: int = 0,
        dead: str | None = None,
    ) -> DeliveryRow:
        """`dead`: why it is so from the start."""
        self._seq += 1
        row = DeliveryRow(
            self._seq, message, recipient, "accepted" if dead is None else "dead", bytes, attempts=attempts
        )
        message.deliveries.append(row)
        self.deliveries[row.seq] = row
        if dead is not None:
            row.ended_at, row.reason = message.accepted_at, dead
        elif recipient is not None:
            self.open.setdefault(recipient, {})[row.seq] = row
            row.inbox = self.inbox(recipient)
            row.inbox.add(row, 1)
        return row

    def close_delivery(self, row: DeliveryRow) -> None:
        """It is handled, expired or dead by now: it waits no more."""
        if row.recipient is not None:
            self.open[row.recipient].pop(row.seq, None)

    def send_notice(self, delivery: DeliveryRow) -> None:
        message = delivery.message
        sender = self.agents[message.sender]
        if message.kind not in ("tell", "announce") or sender.reserved:
            return
        to = self.name(delivery.recipient) if delivery.recipient else message.address
        row = self.put_message(
            self.names[COORDINATOR],
            derived(f"notice:{delivery.seq}"),
            sender.name,
            message.room,
            "notice",
            Content(
                f"Your message to {to} is {delivery.state}: {delivery.reason}.",
                {"message": message.id, "recipient": to, "state": delivery.state, "reason": delivery.reason},
            ),
            in_reply_to=message.id,
            hops=min(message.hops + 1, MAX_HOPS),
            traceparent=message.traceparent,
        )
        self.put_delivery(row, sender.id)

    # ── ending ────────────────────────────────────────────────────────────────────────────────────
    def end_delivery(
        self, row: DeliveryRow, state: str, reason: str, task_state: TaskState = "failed"
    ) -> bool:
        if not row.open:
            return False
        row.move("expired" if state == "expired" else "dead")
        row.reason, row.ended_at = reason, self.now()
        self.close_delivery(row)
        if row.message.kind == "task":
            self.end_task(self.task_of(row), task_state, reason)
        else:
            self.send_notice(row)
        return True

    def task_of(self, row: DeliveryRow) -> TaskRow:
        """The task that a delivery of kind ``task`` is on its way for."""
        return self.tasks[row.message.room.removeprefix("task:")]

    def end_task(self, task: TaskRow, state: TaskState, error: str) -> bool:
        """End a task that nobody completed, and what was delegated in its course."""
        if not task.open:
            return False
        for row in self.on_their_way(task):
            row.move("dead")
            row.reason = error
            self.close_delivery(row)
        task.become(state, self.now())
        task.error, task.wake_at = error, None
        self.send_result(task, self.names[COORDINATOR])
        self.end_subtasks(task)
        return True

    def end_subtasks(self, task: TaskRow) -> None:
        """What was delegated for a task that did not complete has lost its purpose."""
        if task.state != "completed":
            for below in [one for one in self.tasks.values() if one.parent_task == task.id]:
                self.end_task(below, "canceled", f"the task above it is {task.state}")

    def on_their_way(self, task: TaskRow) -> list[DeliveryRow]:
        """The open deliveries of a task: one at most, but while it is being ended."""
        return [
            row
            for row in self.open.get(task.child, {}).values()
            if row.message.kind == "task" and row.message.room == f"task:{task.id}"
        ]

    def send_result(self, task: TaskRow, sender: AgentRow) -> str | None:
        """The name of whoever gets the result; None when the operator gave the task."""
        parent = self.agents[task.parent]
        if parent.reserved:
            return None
        result = task.result or Content(task.error or "")
        row = self.put_message(
            sender,
            derived(f"result:{task.id}"),
            parent.name,
            f"task:{task.id}",
            "result",
            Content(
                result.text,
                {"task": task.id, "state": task.state, "error": task.error, "result": result.data},
                result.metadata,
            ),
            in_reply_to=task.id,
            hops=min(task.hops + 1, MAX_HOPS),
            traceparent=task.traceparent,
        )
        self.put_delivery(row, parent.id)
        return parent.name

    # ── tasks ────────────────────────────────────────────────────────────────────────────────────────
    def task(self, id: str) -> TaskRow:
        """Raises Refused (``unknown_task``)."""
        if id not in self.tasks:
            raise unknown_task(id)
        return self.tasks[id]

    def authority(self, sender: AgentRow, child: AgentRow) -> bool:
        """Who was removed is nobody's child, and nobody's parent."""
        return sender.name == OPERATOR or (
            child.parent == sender.id
            and sender.permissions.control_children
            and child.planned
            and sender.planned
        )

    def task_value(self, row: TaskRow) -> Task:
        return task_value(row, self.name(row.parent), self.name(row.child))

    # ── memories ──────────────────────────────────────────────────────────────────────────────────
    def remember(self, agent: AgentRow, memories: Sequence[Memory]) -> None:
        kept = [
            msgspec.structs.replace(
                m,
                id=m.id.lower(),
                content=_content.decode(to_json("The memory", m.content)),
                created_at=m.created_at or self.now(),
            )
            for m in memories
        ]
        shelf = self.shelves.setdefault(agent.id, Shelf())
        for memory in kept:
            shelf.put(memory)

    def readable(self, agent: AgentRow) -> Iterator[tuple[str, Shelf]]:
        """The agent's own memories, and its parent's if it was given that right; each with the owner's id."""
        owners = [agent.id]
        if agent.parent is not None and agent.permissions.access_parent_memory and agent.planned:
            owners.append(agent.parent)
        for owner in owners:
            if (shelf := self.shelves.get(owner)) is not None:
                yield owner, shelf

    def stats(self) -> Mapping[str, int]:
        counts: dict[str, int] = {}
        for key in [f"deliveries.{d.state}" for d in self.deliveries.values()] + [
            f"tasks.{t.state}" for t in self.tasks.values()
        ]:
            counts[key] = counts.get(key, 0) + 1
        counts |= {f"pruned.{what}": count for what, count in self.pruned.items()}
        for storm in self.storms.noted.values():
            key = f"refused.{storm.kind}"
            counts[key] = counts.get(key, 0) + storm.refused
        return counts


def derived(text: str) -> str:
    """The id that the SQL's derived_uuid gives."""
    return str(UUID(md5(text.encode()).hexdigest()))  # noqa: S324
