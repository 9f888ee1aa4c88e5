"""The ledger on a `MemoryDatabase`, with the same lease: each ledger object is one coordinator."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import msgspec

from swarm.errors import StoreError
from swarm.ledger import LeaseLost
from swarm.limits import Storm
from swarm.records import (
    DEADLINE_PASSED,
    DEFAULT_LIMITS,
    AgentPlan,
    AgentRecord,
    Desired,
    Dispatch,
    Ended,
    HierarchyLimits,
    InboxView,
    MessageView,
    Outgoing,
    Receipt,
)
from swarm.retention import Pruned, PrunePart, Retention
from swarm.stores.checks import (
    check_bounds,
    check_groups,
    check_id,
    check_outgoing,
    check_plans,
    to_json,
)
from swarm.stores.memory import inboxes
from swarm.stores.memory.accepting import accept
from swarm.stores.memory.database import MemoryDatabase
from swarm.stores.memory.dead_letters import DeadLetterPart
from swarm.stores.memory.hierarchy import HierarchyPart, settle_rights
from swarm.stores.memory.retention import prune
from swarm.stores.memory.rows import AgentRow, DeliveryRow, MessageRow, delivery_view, ended_value
from swarm.stores.memory.scaling import ScalingPart, plan_scaling
from swarm.stores.memory.store import directory
from swarm.stores.memory.tasks import TaskPart

CRASHES: Final = 3
"""How many recipients may die with a delivery in hand before it dies too."""


class MemoryLedger(HierarchyPart, ScalingPart, TaskPart, DeadLetterPart):
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
        plan_scaling(row, plan)
        row.roles, row.balance, row.orphans = plan.roles, plan.balance, plan.orphans
        row.birth, row.bounds, row.labels = None, plan.bounds, plan.labels
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
