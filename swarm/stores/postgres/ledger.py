"""The ledger on Postgres, as the coordinator and the deployer see it. `url` is the owner's of the schema."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any, Final

import asyncpg
import msgspec

from swarm.bounds import MailBounds
from swarm.dead_letters import DeadLetter, Requeued
from swarm.errors import StoreDown, UnknownAgent, UnknownChild
from swarm.ledger import LeaseLost
from swarm.limits import Storm, refused
from swarm.records import (
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
    MOST_REASON,
    check_groups,
    check_id,
    check_outgoing,
    check_plans,
    check_tasks,
    check_text,
    to_json,
)
from swarm.stores.postgres.hierarchy import HierarchyPart
from swarm.stores.postgres.migrations import load_migrations, migrate
from swarm.stores.postgres.names import role_name, schema_name
from swarm.stores.postgres.pool import Connections, Rows, session_settings, translate
from swarm.stores.postgres.roles import verifier
from swarm.stores.postgres.rows import (
    to_agent,
    to_change,
    to_dead_letter,
    to_dispatch,
    to_ended,
    to_message_views,
    to_receipts,
    to_storm,
    to_task,
)
from swarm.stores.postgres.scaling import ScalingPart
from swarm.stores.queries import load

_SQL: Final = load("ledger.sql")


class PostgresLedger(HierarchyPart, ScalingPart):
    epoch: int | None = None

    def __init__(self, url: str, swarm: str, *, size: int = 8, deadline: float = 10.0) -> None:
        self._url = url
        self._swarm = swarm
        self._schema = schema_name(swarm)
        self._connections = Connections(
            url, self._schema, size=size, name="swarm coordinator", deadline=deadline
        )

    def __repr__(self) -> str:
        return f"PostgresLedger(schema={self._schema!r}, epoch={self.epoch})"

    async def init(self) -> None:
        """Raises StoreError when a migration was edited or cannot be applied."""
        try:
            async with asyncio.timeout(120.0):
                connection = await asyncpg.connect(
                    self._url,
                    timeout=10.0,
                    server_settings=session_settings(self._schema, "swarm migrations"),
                )
                try:
                    await connection.execute("set statement_timeout = 0")
                    await migrate(connection, self._schema, load_migrations())
                finally:
                    connection.terminate()
        except (
            OSError,
            TimeoutError,
            asyncpg.PostgresConnectionError,
            asyncpg.CannotConnectNowError,
        ) as error:
            raise StoreDown(
                f"The database does not answer ({type(error).__name__}); check that it runs, then try again.",
                reason="store_down",
            ) from error
        except asyncpg.PostgresError as error:
            raise translate(error) from error

    async def ping(self) -> None:
        await self._connections.ping(_SQL["ping"])

    async def close(self) -> None:
        await self._connections.close()

    def _lease(self) -> int:
        if self.epoch is None:
            raise LeaseLost("This coordinator holds no lease; take it before writing.", reason="lease_lost")
        return self.epoch

    async def _write(self, statement: str, *arguments: Any, id: str) -> Rows:
        """A write under the lease: its epoch goes first."""
        return await self._connections.write(_SQL[statement], self._lease(), *arguments, id=id)

    async def _with_near_names(self, address: str) -> UnknownAgent:
        return UnknownAgent(address, await self._names())

    async def _names(self) -> list[str]:
        return [row["name"] for row in await self._connections.read(_SQL["names"])]

    # ── the lease ─────────────────────────────────────────────────────────────────────────────────
    async def take_lease(self, holder: str, seconds: float) -> int | None:
        check_text("The holder", holder)
        rows = await self._connections.write(_SQL["take_lease"], holder, float(seconds), id="the lease")
        self.epoch = rows[0][0]
        return self.epoch

    async def release_lease(self, holder: str) -> None:
        self.epoch = None
        await self._connections.write(_SQL["release_lease"], holder, id="the lease")

    # ── agents ────────────────────────────────────────────────────────────────────────────────────
    async def provision(
        self,
        plans: Sequence[AgentPlan],
        passwords: Mapping[str, str],
        limits: HierarchyLimits = DEFAULT_LIMITS,
        groups: Mapping[str, Sequence[str]] | None = None,
    ) -> None:
        check_plans(plans)
        check_groups(groups or {}, plans)
        verifiers = await asyncio.to_thread(
            lambda: {
                p.name: verifier(role_name(self._swarm, p.id), passwords[p.name])
                for p in plans
                if p.name in passwords
            }
        )
        await self._connections.write(
            _SQL["provision"],
            to_json("The plan", plans),
            msgspec.json.encode(verifiers).decode(),
            to_json("The limits", limits),
            to_json("The groups", dict(groups or {})),
            id="the registry",
        )

    async def agents(self) -> list[AgentRecord]:
        return [to_agent(row) for row in await self._connections.read(_SQL["agents"])]

    async def set_desired(self, agent: str, desired: Desired) -> None:
        if not (await self._write("set_desired", agent, desired, id=agent))[0][0]:
            raise await self._with_near_names(agent)

    # ── the way of a message ──────────────────────────────────────────────────────────────────────
    async def accept(self, sender: str, messages: Sequence[Outgoing]) -> list[Receipt]:
        if not messages:
            return []
        check_outgoing(messages)
        try:
            rows = await self._write("accept", sender, to_json("The message", messages), id=messages[0].id)
        except UnknownAgent as error:
            raise await self._with_near_names(error.address) from None
        if not rows:
            raise await self._with_near_names(sender)
        if rows[0]["refused"] is not None:
            raise refused(rows[0]["refused"])
        return to_receipts(messages, rows[0]["ids"], rows[0]["names"])

    async def claim(self, free: Mapping[str, int]) -> list[Dispatch]:
        rows = await self._connections.write_once(
            _SQL["claim"], self._lease(), list(free), list(free.values()), id="a claim"
        )
        return [to_dispatch(row) for row in rows]

    async def waiting(self) -> dict[str, int]:
        return {row["name"]: row["waiting"] for row in await self._connections.read(_SQL["waiting"])}

    async def release(self, deliveries: Sequence[int], *, crashed: bool) -> list[Ended]:
        rows = await self._write("release", list(deliveries), crashed, id="a release")
        return [to_ended(row) for row in rows]

    async def dispatched(self) -> dict[str, int]:
        return {row["name"]: row["out"] for row in await self._connections.read(_SQL["dispatched"])}

    async def release_all_but(self, agent: str, in_flight: Sequence[int]) -> int:
        rows = await self._write("release_all_but", agent, list(in_flight), id="a release")
        if not rows:
            raise await self._with_near_names(agent)
        return int(rows[0][0])

    async def end_overdue(self) -> list[Ended]:
        return [to_ended(row) for row in await self._write("end_overdue", id="a sweep")]

    async def end_aged(self) -> list[Ended]:
        return [to_ended(row) for row in await self._write("end_aged", id="a sweep")]

    # ── dead letters ──────────────────────────────────────────────────────────────────────────────
    async def dead_letters(
        self, *, agent: str | None = None, limit: int = 100, settled: bool = False, oldest: bool = False
    ) -> list[DeadLetter]:
        check_text("The agent", agent)
        rows = await self._connections.read(_SQL["dead_letters"], agent, limit, settled, oldest)
        return [to_dead_letter(row) for row in rows]

    async def dead_letter(self, delivery: int) -> DeadLetter | None:
        rows = await self._connections.read(_SQL["dead_letter"], delivery)
        return to_dead_letter(rows[0]) if rows else None

    async def dead_letters_of(self, id: str, *, agent: str | None = None) -> list[DeadLetter]:
        check_text("The agent", agent)
        rows = await self._connections.read(_SQL["dead_letters_of"], check_id("message", id), agent)
        return [to_dead_letter(row) for row in rows]

    async def requeue(self, delivery: int, id: str, by: str) -> Requeued:
        try:
            rows = await self._write("requeue", delivery, check_id("message", id), by, id=id)
        except UnknownAgent as error:
            raise await self._with_near_names(error.address) from None
        return Requeued(delivery, str(rows[0]["id"]), tuple(sorted(rows[0]["names"])))

    async def drop_dead(self, delivery: int, by: str) -> None:
        await self._write("drop_dead", delivery, by, id=f"dead letter {delivery}")

    # ── tasks ─────────────────────────────────────────────────────────────────────────────────────
    async def delegate(self, sender: str, tasks: Sequence[NewTask]) -> list[Task]:
        if not tasks:
            return []
        check_tasks(tasks)
        try:
            rows = await self._write("delegate", sender, to_json("The task", tasks), id=tasks[0].id)
        except UnknownAgent as error:
            raise UnknownChild(error.address, await self._names()) from None
        if not rows:
            raise await self._with_near_names(sender)
        return [to_task(row) for row in rows]

    async def cancel(self, by: str, task: str, reason: str = "") -> TaskChange:
        check_text("The reason", reason)
        return await self._decide("cancel", by, check_id("task", task), reason[:MOST_REASON])

    async def answer(self, by: str, task: str, answer: Content) -> TaskChange:
        return await self._decide("answer", by, check_id("task", task), to_json("The answer", answer))

    async def retry(self, by: str, task: str) -> TaskChange:
        return await self._decide("retry", by, check_id("task", task))

    async def _decide(self, statement: str, by: str, task: str, *rest: str) -> TaskChange:
        rows = await self._write(statement, by, task, *rest, id=task)
        if not rows:
            raise await self._with_near_names(by)
        return to_change(rows[0])

    async def wake_tasks(self) -> list[str]:
        return list((await self._write("wake_tasks", id="a sweep"))[0][0])

    async def ended_of(self, deliveries: Sequence[int]) -> dict[int, str]:
        rows = await self._connections.read(_SQL["ended_of"], list(deliveries))
        return {row["seq"]: row["reason"] for row in rows}

    async def tasks(
        self, *, limit: int = 100, state: TaskState | None = None, agent: str | None = None
    ) -> list[Task]:
        if agent is not None:
            rows = await self._connections.read(_SQL["tasks_of_agent"], limit, state, agent)
        elif state is not None:
            rows = await self._connections.read(_SQL["tasks_of_state"], limit, state)
        else:
            rows = await self._connections.read(_SQL["tasks"], limit)
        return [to_task(row) for row in rows]

    async def task(self, id: str) -> Task | None:
        rows = await self._connections.read(_SQL["task"], check_id("task", id))
        return to_task(rows[0]) if rows else None

    async def task_tree(self, id: str) -> list[Task]:
        rows = await self._connections.read(_SQL["task_tree"], check_id("task", id))
        return [to_task(row) for row in rows]

    async def subtasks(self, id: str) -> list[Task]:
        return [to_task(row) for row in await self._connections.read(_SQL["subtasks"], check_id("task", id))]

    # ── views ─────────────────────────────────────────────────────────────────────────────────────
    async def message(self, id: str) -> MessageView | None:
        views = to_message_views(await self._connections.read(_SQL["message"], check_id("message", id)))
        return views[0] if views else None

    async def inbox(self, agent: str, *, limit: int = 10) -> InboxView:
        rows = await self._connections.read(_SQL["inbox"], agent)
        if not rows:
            raise await self._with_near_names(agent)
        first = await self._connections.read(_SQL["inbox_first"], rows[0]["id"], limit, agent)
        return InboxView(
            agent=agent,
            waiting=rows[0]["waiting"],
            in_flight=rows[0]["in_flight"],
            bytes=rows[0]["bytes"],
            bounds=MailBounds(**{name: rows[0][name] for name in MailBounds.__struct_fields__}),
            oldest_at=rows[0]["oldest_at"],
            first=tuple(to_message_views(first)),
        )

    async def prune(
        self, part: PrunePart, retention: Retention, *, after: str = "", most: int = 200
    ) -> Pruned:
        ages = msgspec.json.encode(retention.milliseconds()).decode()
        (row,) = await self._write("prune", part, ages, after, most, id="a batch of the cleaner")
        return Pruned(msgspec.json.decode(row["gone"], type=dict[str, int]), row["next"])

    async def storms(self, since: int) -> list[Storm]:
        return [to_storm(row) for row in await self._connections.read(_SQL["storms"], since)]

    async def stats(self) -> dict[str, int]:
        return {row["name"]: row["count"] for row in await self._connections.read(_SQL["stats"])}
