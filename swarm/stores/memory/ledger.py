"""The ledger on a `MemoryDatabase`, with the same lease: each ledger object is one coordinator."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec

from swarm.dead_letters import DeadLetter, Requeued
from swarm.errors import StoreError
from swarm.ledger import LeaseLost
from swarm.limits import Storm
from swarm.records import (
    DEADLINE_PASSED,
    DEFAULT_LIMITS,
    AgentPlan,
    AgentRecord,
    Content,
    Desired,
    Dispatch,
    Ended,
    HierarchyLimits,
    InboxView,
    MessageView,
    NewTask,
    Outgoing,
    Receipt,
    Task,
    TaskChange,
    TaskState,
)
from swarm.retention import Pruned, PrunePart, Retention
from swarm.stores.checks import (
    check_bounds,
    check_groups,
    check_id,
    check_outgoing,
    check_plans,
    check_tasks,
    check_text,
    to_json,
)
from swarm.stores.memory import inboxes
from swarm.stores.memory.accepting import accept
from swarm.stores.memory.database import MemoryDatabase
from swarm.stores.memory.delegation import delegate
from swarm.stores.memory.hierarchy import HierarchyPart, settle_rights
from swarm.stores.memory.retention import prune
from swarm.stores.memory.rows import AgentRow, DeliveryRow, MessageRow, delivery_view, ended_value
from swarm.stores.memory.store import directory
from swarm.stores.memory.task_life import answer as answer_task
from swarm.stores.memory.task_life import cancel as cancel_task
from swarm.stores.memory.task_life import retry as retry_task
from swarm.stores.memory.task_life import wake

CRASHES: Final = 3
"""How many recipients may die with a delivery in hand before it dies too."""


class MemoryLedger(HierarchyPart):
    epoch: int | None = None

    def __init__(self, database: MemoryDatabase) -> None:
        self._database = database

    def __repr__(self) -> str:
        return f"MemoryLedger(epoch={self.epoch})"

    async def init(self) -> None:
        self._database.check_up()

    async def ping(self) -> None:
        self._database.check_up()

    async def close(self) -> None:
        return None

    def _reading(self) -> MemoryDatabase:
        self._database.check_up()
        return self._database

    def _writing(self) -> MemoryDatabase:
        database = self._reading()
        if self.epoch is None:
            raise LeaseLost("This coordinator holds no lease; take it before writing.", reason="lease_lost")
        if database.lease_epoch != self.epoch or database.lease_until <= database.now():
            raise LeaseLost(
                f"The lease of epoch {self.epoch} is gone: another coordinator may have it; stop and stand by.",
                reason="lease_lost",
            )
        return database

    # ── the lease ─────────────────────────────────────────────────────────────────────────────────
    async def take_lease(self, holder: str, seconds: float) -> int | None:
        database = self._reading()
        held = database.lease_until > database.now()
        if held and database.lease_holder != holder:
            self.epoch = None
            return None
        if not held:
            database.lease_epoch += 1
        database.lease_holder = holder
        database.lease_until = database.now() + int(seconds * 1000)
        self.epoch = database.lease_epoch
        return self.epoch

    async def release_lease(self, holder: str) -> None:
        self.epoch = None
        database = self._reading()
        if database.lease_holder == holder:
            database.lease_holder, database.lease_until = None, 0

    # ── agents ────────────────────────────────────────────────────────────────────────────────────
    async def provision(
        self,
        plans: Sequence[AgentPlan],
        passwords: Mapping[str, str],
        limits: HierarchyLimits = DEFAULT_LIMITS,
        groups: Mapping[str, Sequence[str]] | None = None,
    ) -> None:
        check_plans(plans)
        check_bounds(plans, limits)
        check_groups(groups or {}, plans)
        to_json("The plan", plans)
        database = self._reading()
        now = database.now()
        for plan in plans:
            known = database.names.get(plan.name)
            if known is not None and known.id != plan.id.lower():
                raise StoreError(
                    f"The agent {plan.name} is known under another id than {plan.id}; one name is one character. "
                    "Give the new one another name.",
                    reason="id_taken",
                )
            by_id = database.agents.get(plan.id.lower())
            if by_id is not None and by_id.name != plan.name:
                raise StoreError(
                    f"The id {plan.id} of {plan.name} is taken by the agent {by_id.name}; "
                    "give the character another name or id.",
                    reason="id_taken",
                )
        for plan in plans:
            if plan.name not in database.names:
                database.add_agent(plan.name, plan.id)
        for plan in plans:
            self._apply(plan, now)
        planned = {plan.name for plan in plans}
        for row in database.agents.values():
            if row.planned and not row.reserved and row.name not in planned and row.birth is None:
                row.planned, row.desired, row.updated_at = False, "stopped", now
        database.limits = limits
        database.groups = {
            group: {database.names[name].id for name in members} for group, members in (groups or {}).items()
        }
        settle_rights(database)

    def _apply(self, plan: AgentPlan, now: int) -> None:
        database = self._database
        row = database.names[plan.name]
        before = row.plan()
        row.version, row.source, row.granted = (
            plan.version,
            plan.source,
            msgspec.to_builtins(plan.permissions),
        )
        row.roles, row.replicas, row.balance, row.orphans = (
            plan.roles,
            plan.replicas,
            plan.balance,
            plan.orphans,
        )
        row.birth, row.bounds = None, plan.bounds
        if plan.limits is not None:
            database.storms.limits[row.id] = plan.limits
        row.parent = database.names[plan.parent].id if plan.parent else None
        if not row.planned:
            row.planned, row.desired, row.updated_at = True, "running", now
        if row.plan() != before:
            row.updated_at = now
        versions = database.characters.setdefault(row.id, {})
        versions.pop(plan.version, None)
        versions[plan.version] = dict(plan.character)

    async def agents(self) -> list[AgentRecord]:
        return directory(self._reading())

    async def set_desired(self, agent: str, desired: Desired) -> None:
        database = self._writing()
        database.want(database.agent(agent), desired)

    # ── the way of a message ──────────────────────────────────────────────────────────────────────
    async def accept(self, sender: str, messages: Sequence[Outgoing]) -> list[Receipt]:
        check_outgoing(messages)
        to_json("The message", messages)
        database = self._writing()
        return accept(database, self._sender(sender), messages, strict=True)[0]

    def _sender(self, name: str) -> AgentRow:
        if name not in self._database.names:
            raise self._database.unknown(name)
        return self._database.names[name]

    async def claim(self, free: Mapping[str, int]) -> list[Dispatch]:
        database = self._writing()
        now = database.now()
        found: list[DeliveryRow] = []
        for name, places in free.items():
            agent = database.names.get(name)
            if agent is None:
                continue
            left = places
            for row in database.open.get(agent.id, {}).values():
                expires = row.message.expires_at
                if row.state != "accepted" or (expires is not None and expires <= now):
                    continue
                if row.message.kind in ("result", "notice"):
                    found.append(row)
                elif left > 0:
                    found.append(row)
                    left -= 1
        found.sort(key=lambda row: row.seq)
        return [self._dispatch(row) for row in found]

    def _dispatch(self, row: DeliveryRow) -> Dispatch:
        database, message = self._database, row.message
        row.move("dispatched")
        row.attempts += 1
        if message.kind == "task" and (task := database.task_of(row)).state in ("submitted", "working"):
            task.become("working", database.now())
            task.attempts = row.attempts
        assert row.recipient is not None
        return Dispatch(
            delivery=row.seq,
            id=message.id,
            sender=database.name(message.sender),
            recipient=database.name(row.recipient),
            room=message.room,
            kind=message.kind,
            content=message.content,
            attempt=row.attempts,
            crashes=row.crashes,
            in_reply_to=message.in_reply_to,
            expires_at=message.expires_at,
            hops=message.hops,
            origin=message.origin,
            traceparent=message.traceparent,
            accepted_at=message.accepted_at,
        )

    async def waiting(self) -> dict[str, int]:
        database = self._reading()
        counts = {database.name(id): count.messages + count.answers for id, count in database.inboxes.items()}
        return {name: count for name, count in counts.items() if count}

    async def release(self, deliveries: Sequence[int], *, crashed: bool) -> list[Ended]:
        database = self._writing()
        rows = [database.deliveries[seq] for seq in sorted(set(deliveries)) if seq in database.deliveries]
        return [
            self._ended(row)
            for row in rows
            if row.state == "dispatched" and self._give_back(row, crashed=crashed)
        ]

    def _give_back(self, row: DeliveryRow, *, crashed: bool) -> bool:
        """Whether it ended instead."""
        row.crashes += crashed
        if crashed:
            row.last_error = "an instance of its recipient died with it in hand"
        spent = False
        if crashed and row.message.kind == "task":
            task = self._database.task_of(row)
            task.failures += 1
            spent = task.failures >= task.max_attempts
        if crashed and (row.crashes >= CRASHES or spent):
            return self._database.end_delivery(row, "dead", f"crashed its recipient {row.crashes} times")
        row.move("accepted")
        return False

    async def dispatched(self) -> dict[str, int]:
        database = self._reading()
        counts = {
            id: sum(d.state == "dispatched" for d in rows.values()) for id, rows in database.open.items()
        }
        return {database.name(id): count for id, count in counts.items() if count}

    async def release_all_but(self, agent: str, in_flight: Sequence[int]) -> int:
        database = self._writing()
        kept = set(in_flight)
        rows = [
            row
            for row in database.open.get(database.agent(agent).id, {}).values()
            if row.state == "dispatched" and row.seq not in kept
        ]
        for row in rows:
            self._give_back(row, crashed=False)
        return len(rows)

    async def end_overdue(self) -> list[Ended]:
        database = self._writing()
        now = database.now()
        ended = []
        for row in [row for rows in database.open.values() for row in rows.values()]:
            expires = row.message.expires_at
            late = row.state == "accepted" and expires is not None and expires <= now
            if (
                late
                and row.message.kind != "task"
                and database.end_delivery(row, "expired", "its time passed")
            ):
                ended.append(row)
        for task in list(database.tasks.values()):
            if task.open and task.deadline is not None and task.deadline <= now:
                for row in database.on_their_way(task):
                    database.end_delivery(row, "expired", DEADLINE_PASSED)
                    ended.append(row)
                database.end_task(task, "failed", DEADLINE_PASSED)
        return [self._ended(row) for row in sorted(ended, key=lambda row: row.seq)]

    def _ended(self, row: DeliveryRow) -> Ended:
        assert row.recipient is not None
        return ended_value(row, self._database.name(row.message.sender), self._database.name(row.recipient))

    async def end_aged(self) -> list[Ended]:
        return [self._ended(row) for row in inboxes.end_aged(self._writing())]

    # ── dead letters ──────────────────────────────────────────────────────────────────────────────
    async def dead_letters(
        self, *, agent: str | None = None, limit: int = 100, settled: bool = False, oldest: bool = False
    ) -> list[DeadLetter]:
        return inboxes.dead_letters(self._reading(), agent=agent, limit=limit, settled=settled, oldest=oldest)

    async def dead_letter(self, delivery: int) -> DeadLetter | None:
        return inboxes.dead_letter(self._reading(), delivery)

    async def dead_letters_of(self, id: str, *, agent: str | None = None) -> list[DeadLetter]:
        return inboxes.dead_letters_of(self._reading(), check_id("message", id), agent=agent)

    async def requeue(self, delivery: int, id: str, by: str) -> Requeued:
        return inboxes.requeue(self._writing(), delivery, check_id("message", id), by)

    async def drop_dead(self, delivery: int, by: str) -> None:
        inboxes.drop_dead(self._writing(), delivery, by)

    # ── tasks ─────────────────────────────────────────────────────────────────────────────────────
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

    # ── views ─────────────────────────────────────────────────────────────────────────────────────
    async def message(self, id: str) -> MessageView | None:
        database, wanted = self._reading(), check_id("message", id)
        for (known, _), row in database.messages.items():
            if known == wanted:
                return self._view(row, row.deliveries)
        return None

    def _view(self, row: MessageRow, deliveries: Sequence[DeliveryRow]) -> MessageView:
        name = self._database.name
        views = [delivery_view(d, name(d.recipient) if d.recipient else row.address) for d in deliveries]
        return MessageView(
            id=row.id,
            sender=name(row.sender),
            to=row.address,
            room=row.room,
            kind=row.kind,
            content=row.content,
            accepted_at=row.accepted_at,
            deliveries=tuple(sorted(views, key=lambda view: view.to)),
        )

    async def inbox(self, agent: str, *, limit: int = 10) -> InboxView:
        database = self._reading()
        rows = list(database.open.get(database.agent(agent).id, {}).values())
        waiting = [row for row in rows if row.state == "accepted"]
        return InboxView(
            agent=agent,
            waiting=len(waiting),
            in_flight=len(rows) - len(waiting),
            bytes=database.inbox(database.agent(agent).id).bytes,
            bounds=database.agent(agent).bounds,
            oldest_at=waiting[0].message.accepted_at if waiting else None,
            first=tuple(self._view(row.message, [row]) for row in waiting[:limit]),
        )

    async def prune(
        self, part: PrunePart, retention: Retention, *, after: str = "", most: int = 200
    ) -> Pruned:
        return prune(self._writing(), part, retention, after, most)

    async def storms(self, since: int) -> list[Storm]:
        noted = self._reading().storms.noted.values()
        return sorted((s for s in noted if s.last_at >= since), key=lambda s: (-s.last_at, s.kind, s.sender))

    async def stats(self) -> dict[str, int]:
        return dict(self._reading().stats())


def _without_what_is_large(task: Task) -> Task:
    large: dict[str, Any] = {
        name: empty
        for name, empty in (("result", None), ("input", {}))
        if len(to_json("The task", getattr(task, name))) > 4000
    }
    return msgspec.structs.replace(task, **large) if large else task
