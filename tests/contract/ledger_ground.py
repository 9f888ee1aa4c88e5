"""What the ledger's machine stands on: a world of agents, a clock that only the machine turns, and the tables as
they are, on the memory implementation and on Postgres alike."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, Protocol, TypeVar

import asyncpg
import msgspec

from swarm.ids import string_to_uuid
from swarm.ledger import Ledger
from swarm.records import DeliveryState, LedgerKind, TaskState
from swarm.stores.postgres import role_name
from swarm.stores.postgres.roles import verifier
from tests.contract.store_fixtures import FAMILY, MemoryWorld, PostgresWorld, World

GROUPS = {"press": ("boss", "reader")}

START: int = 1_800_000_000_000
"""Where the machine's clock begins, in Unix milliseconds."""

T = TypeVar("T")


class DeliveryRow(msgspec.Struct, frozen=True):
    seq: int
    message: str
    sender: str
    recipient: str | None
    room: str
    kind: LedgerKind
    state: DeliveryState
    attempts: int
    crashes: int
    expires_at: int | None
    accepted_at: int

    @property
    def open(self) -> bool:
        return self.state in ("accepted", "dispatched")

    @property
    def lane(self) -> tuple[str, str, str | None]:
        return self.sender, self.room, self.recipient


class TaskRow(msgspec.Struct, frozen=True):
    id: str
    parent: str
    child: str
    state: TaskState
    attempts: int
    max_attempts: int
    deadline: int | None
    result: bool
    failures: int
    inputs: int
    parent_task: str | None


class Tables(msgspec.Struct, frozen=True):
    """All that counts, at one moment. `effects` are the deliveries of which a turn left a memory, one for each."""

    deliveries: tuple[DeliveryRow, ...] = ()
    tasks: tuple[TaskRow, ...] = ()
    effects: tuple[int, ...] = ()
    epoch: int = 0
    pruned: dict[str, int] = {}
    inboxes: dict[str, tuple[int, int]] | None = None
    """By agent: how many messages, and how many answers, the ledger says are waiting. None where nobody keeps count."""


class Ground(Protocol):
    world: World

    def run(self, work: Coroutine[Any, Any, T]) -> T: ...

    def fresh(self) -> None:
        """Empty tables, the family as provisioned, nobody's lease, the clock at START."""

    def set_clock(self, now: int) -> None: ...

    def make_login(self, ledger: Ledger, agent: str) -> None:
        """As a node does for an agent that was spawned."""

    def tables(self) -> Tables: ...


class MemoryGround:
    def __init__(self, runner: asyncio.Runner) -> None:
        self._runner = runner
        self._now = START
        self.world: MemoryWorld

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return self._runner.run(work)

    def fresh(self) -> None:
        self._now = START
        self.world = MemoryWorld()
        self.world.database._clock = lambda: self._now / 1000
        self.run(self.world.another_ledger().provision(FAMILY, {}, groups=GROUPS))

    def set_clock(self, now: int) -> None:
        self._now = now

    def make_login(self, ledger: Ledger, agent: str) -> None: ...

    def tables(self) -> Tables:
        database = self.world.database
        name = database.name
        return Tables(
            tuple(
                DeliveryRow(
                    row.seq,
                    row.message.id,
                    name(row.message.sender),
                    name(row.recipient) if row.recipient else None,
                    row.message.room,
                    row.message.kind,
                    row.state,
                    row.attempts,
                    row.crashes,
                    row.message.expires_at,
                    row.message.accepted_at,
                )
                for row in database.deliveries.values()
            ),
            tuple(
                TaskRow(
                    row.id,
                    name(row.parent),
                    name(row.child),
                    row.state,
                    row.attempts,
                    row.max_attempts,
                    row.deadline,
                    row.result is not None,
                    row.failures,
                    len(row.inputs),
                    row.parent_task,
                )
                for _, row in sorted(database.tasks.items())
            ),
            tuple(
                sorted(
                    int(memory.content.data["delivery"])
                    for shelf in database.shelves.values()
                    for memory in shelf.by_id.values()
                )
            ),
            database.lease_epoch,
            dict(database.pruned),
        )


CLOCK = """
create table test_clock as select {start}::bigint as now;
grant select on test_clock to public;
create or replace function now_ms() returns bigint language sql volatile as $$ select now from test_clock $$;
"""
TABLES = """
select jsonb_build_array(
    (select coalesce(jsonb_agg(jsonb_build_object('seq', d.seq, 'message', d.message, 'sender', s.name,
         'recipient', r.name, 'room', d.room, 'kind', d.kind, 'state', d.state, 'attempts', d.attempts,
         'crashes', d.crashes, 'expires_at', d.expires_at, 'accepted_at', d.accepted_at) order by d.seq), '[]')
     from deliveries d join agents s on s.id = d.sender left join agents r on r.id = d.recipient),
    (select coalesce(jsonb_agg(jsonb_build_object('id', t.id, 'parent', p.name, 'child', c.name, 'state', t.state,
         'attempts', t.attempts, 'max_attempts', t.max_attempts, 'deadline', t.deadline,
         'result', t.result is not null, 'failures', t.failures, 'inputs', jsonb_array_length(t.inputs),
         'parent_task', t.parent_task) order by t.id::text), '[]')
     from tasks t join agents p on p.id = t.parent join agents c on c.id = t.child),
    (select coalesce(jsonb_agg((content -> 'data' ->> 'delivery')::bigint
         order by (content -> 'data' ->> 'delivery')::bigint), '[]') from memories),
    (select epoch from lease),
    (select coalesce(jsonb_object_agg(what, count), '{}') from pruned),
    (select coalesce(jsonb_object_agg(a.name, jsonb_build_array(c.messages, c.answers)), '{}')
     from (select agent, sum(messages) as messages, sum(answers) as answers from inbox_counts group by agent) c
     join agents a on a.id = c.agent))::text
"""
KEPT = ("agents", "characters", "lease", "schema_migrations", "test_clock", "limits", "send_limits", "tally")


class _Found(msgspec.Struct, frozen=True, array_like=True):
    deliveries: tuple[DeliveryRow, ...]
    tasks: tuple[TaskRow, ...]
    effects: tuple[int, ...]
    epoch: int
    pruned: dict[str, int]
    inboxes: dict[str, tuple[int, int]]


class PostgresGround:
    """One schema for all runs, emptied before each: making one takes longer than a run."""

    def __init__(self, runner: asyncio.Runner, url: str) -> None:
        self._runner = runner
        self.world = PostgresWorld(url)
        self.run(self.world.begin())
        self._admin: asyncpg.Connection[Any] = self.run(
            asyncpg.connect(url, server_settings={"search_path": self.world.swarm, "jit": "off"})
        )
        self.run(self._admin.execute(CLOCK.format(start=START)))
        emptied = self.run(
            self._admin.fetch(
                "select tablename from pg_tables where schemaname = $1 and tablename <> all ($2)",
                self.world.swarm,
                list(KEPT),
            )
        )
        self._empty = "truncate " + ", ".join(row["tablename"] for row in emptied)

    def close(self) -> None:
        self.run(self._admin.close())
        self.run(self.world.end())

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return self._runner.run(work)

    def fresh(self) -> None:
        self.set_clock(START)
        self.run(self._admin.execute(self._empty))
        self.run(self._admin.execute("update lease set holder = null, epoch = 0, expires_at = 0"))
        self.run(self._admin.execute("update tally set upto = 0, rows = 0"))
        ours = [each.name for each in FAMILY]
        spawned = "select id from agents where not reserved and name <> all ($1)"  # by an earlier run
        for table in ("characters", "agents"):
            self.run(self._admin.execute(f"delete from {table} where id in ({spawned})", ours))
        self.run(self.world.ledger.provision(FAMILY, {}, groups=GROUPS))

    def make_login(self, ledger: Ledger, agent: str) -> None:
        id = string_to_uuid(agent)
        secret = verifier(role_name(self.world.swarm, id), self.world.password(agent))
        assert self.run(ledger.set_verifier(id, secret))

    def set_clock(self, now: int) -> None:
        self.run(self._admin.execute(f"update test_clock set now = {now}"))

    def tables(self) -> Tables:
        found = msgspec.json.decode(self.run(self._admin.fetchval(TABLES)), type=_Found)
        return Tables(found.deliveries, found.tasks, found.effects, found.epoch, found.pruned, found.inboxes)
