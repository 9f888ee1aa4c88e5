"""What happens for every message touches a handful of rows, however many the ledger has handled (P6, X8).

The plans are those that the server really used: auto_explain tells each statement's, within our functions too, on
tables with thousands of handled rows and agents. That a statement is fast today proves nothing; what it read does.
"""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any, Final

import asyncpg
import msgspec
import pytest

from swarm.ids import new_id, string_to_uuid
from swarm.records import Content, Outgoing, TaskOutcome, Turn
from swarm.retention import Retention
from swarm.stores.postgres.pool import session_settings
from swarm.stores.queries import load
from tests.contract.store_fixtures import PostgresWorld, administrator, message, now, task

_SQL: Final = load("ledger.sql")
HANDLED: Final = 5_000
BOUND: Final = 40
"""The most rows of one table that a statement of the hot path, and all that it calls, may read here: it deals with a
message or two, and of every table there are 500 rows or more."""
LARGE: Final = ("deliveries", "messages", "tasks", "agents", "memories")
SEED: Final = f"""
insert into agents (id, name) select md5('sleeper ' || n)::uuid, 'sleeper-' || n from generate_series(1, 1000) n;
insert into messages (id, sender, address, room, kind, content, accepted_at)
select md5('message ' || n)::uuid, s.id, 'reader', 'lobby', 'tell', '{{}}', n
from generate_series(1, {HANDLED}) n, agents s where s.name = 'boss';
insert into deliveries (message, sender, recipient, room, kind, state, attempts, expires_at, accepted_at, handled_at)
select m.id, m.sender, r.id, m.room, m.kind, 'handled', 1, 1, m.accepted_at, m.accepted_at
from messages m, agents r where r.name = 'reader';
insert into deliveries (message, sender, recipient, room, kind, state, reason, accepted_at, ended_at)
select m.id, m.sender, r.id, m.room, m.kind, 'dead', 'a test', m.accepted_at, m.accepted_at
from messages m, agents r where r.name = 'writer' limit {HANDLED // 10};
insert into tasks (id, parent, child, goal, state, error, deadline, created_at, updated_at)
select md5('task ' || n)::uuid, p.id, c.id, 'old', 'failed', 'a test', 1, n, n
from generate_series(1, {HANDLED // 10}) n, agents p, agents c where p.name = 'boss' and c.name = 'reader';
analyze;
"""
EXPLAIN: Final = {
    "auto_explain.log_min_duration": "0",
    "auto_explain.log_nested_statements": "on",
    "auto_explain.log_analyze": "on",
    "auto_explain.log_timing": "off",
    "auto_explain.log_format": "json",
    "auto_explain.log_level": "notice",
}


class Plans:
    """The plans of what one connection ran since `forget`."""

    def __init__(self, connection: asyncpg.Connection[Any]) -> None:
        self.connection = connection
        self._said: list[str] = []
        connection.add_log_listener(lambda _, said: self._said.append(str(said.message)))

    async def of(self, statement: str, *arguments: Any) -> list[dict[str, Any]]:
        """All nodes of all plans, also of the statements inside of functions."""
        self._said.clear()
        self.rows = await self.connection.fetch(statement, *arguments)
        plans = [said.partition("plan:")[2] for said in self._said if "plan:" in said]
        assert plans, "the server explains nothing"
        nodes = [node for plan in plans for node in _nodes(json.loads(plan)["Plan"])]
        return [node for node in nodes if node["Actual Loops"]]  # some are only for other arguments


def _nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for below in plan.get("Plans", ()):
        yield from _nodes(below)


def read(nodes: list[dict[str, Any]]) -> dict[str, int]:
    """The rows that were read of each large table, the ones that a filter then dropped among them."""
    rows: dict[str, int] = {}
    for node in nodes:
        if (table := node.get("Relation Name")) in LARGE and "Scan" in node["Node Type"]:
            found = node["Actual Rows"] + sum(
                value for key, value in node.items() if key.startswith("Rows Removed by")
            )
            rows[table] = rows.get(table, 0) + round(found * node["Actual Loops"])
    return rows


def indexes(nodes: list[dict[str, Any]]) -> set[str]:
    return {node["Index Name"] for node in nodes if "Index Name" in node}


def check(nodes: list[dict[str, Any]], *wanted: str) -> None:
    scans = [node["Relation Name"] for node in nodes if node["Node Type"] == "Seq Scan"]
    assert not set(scans) & set(LARGE), f"all of {scans} was read"
    assert set(wanted) <= indexes(nodes), f"{wanted} are not all in {indexes(nodes)}"
    too_much = {table: count for table, count in read(nodes).items() if count > BOUND}
    assert not too_much, f"{too_much} rows were read, by {indexes(nodes)}"


@asynccontextmanager
async def explained(world: PostgresWorld, url: str, role: str) -> AsyncIterator[Plans]:
    """A connection as ours are, of which the server tells every plan."""
    async with administrator(world) as administering:
        quoted = '"' + role + '"'
        for name, value in {"session_preload_libraries": "auto_explain", **EXPLAIN}.items():
            await administering.execute(f"alter role {quoted} in database postgres set {name} = '{value}'")
    settings = session_settings(world.swarm, "plans") | {"client_min_messages": "notice"}
    connection = await asyncpg.connect(url, server_settings=settings)
    try:
        yield Plans(connection)
    finally:
        await connection.close()
        async with administrator(world) as administering:
            await administering.execute(f"alter role {quoted} in database postgres reset all")


@pytest.fixture
async def seeded(postgres_world: PostgresWorld) -> PostgresWorld:
    async with administrator(postgres_world) as connection:
        await connection.execute(SEED)
    await postgres_world.store("boss").post([message("reader", "one"), message("reader", "two")])
    return postgres_world


@asynccontextmanager
async def coordinating(world: PostgresWorld) -> AsyncIterator[Plans]:
    """The owner's own settings are left alone: other tests of this session log in as it."""
    settings = session_settings(world.swarm, "plans") | {"client_min_messages": "notice"}
    connection = await asyncpg.connect(world.url, server_settings=settings)
    try:
        await connection.execute("load 'auto_explain'")
        for name, value in EXPLAIN.items():
            await connection.execute(f"set {name} = '{value}'")
        yield Plans(connection)
    finally:
        await connection.close()


async def test_the_coordinators_way_of_a_message_reads_what_is_open_alone(seeded: PostgresWorld) -> None:
    await seeded.ledger.delegate("operator", [task("writer")])
    async with coordinating(seeded) as plans:
        names, free = ["reader", "writer", "boss"], [1, 1, 1]
        check(await plans.of(_SQL["waiting"]))
        check(await plans.of(_SQL["oldest_waiting"], ["reader", "writer"]), "deliveries_waiting")
        check(await plans.of(_SQL["claim"], 1, names, free), "deliveries_waiting", "deliveries_results")
        claimed = [row["delivery"] for row in plans.rows]
        assert len(claimed) == 2
        check(await plans.of(_SQL["release"], 1, claimed, False), "deliveries_pkey")
        check(await plans.of(_SQL["release_all_but"], 1, "reader", []), "deliveries_open")
        check(await plans.of(_SQL["end_overdue"], 1), "deliveries_expiring", "tasks_due")
        check(await plans.of(_SQL["inbox"], "reader"))
        reader = string_to_uuid("reader")
        check(await plans.of(_SQL["inbox_first"], reader, 10, "reader"), "deliveries_waiting")
        body = _json([message("reader", "three")])
        check(await plans.of(_SQL["accept"], 1, "operator", body))
        check(await plans.of(_SQL["message"], new_id()), "messages_pkey")
        given = _json([task("reader")])
        check(await plans.of(_SQL["delegate"], 1, "operator", given))


async def test_an_agents_commit_and_post_read_their_own_few_rows(seeded: PostgresWorld) -> None:
    (got,) = await seeded.ledger.claim({"reader": 1})
    (given,) = await seeded.store("boss").delegate([task("writer")])
    (work,) = await seeded.ledger.claim({"writer": 1})
    role = f"{seeded.swarm}.{string_to_uuid('reader')}"
    async with explained(seeded, seeded.agent_url("reader"), role) as plans:
        turn = Turn(delivery=got.delivery, attempt=1, outgoing=(_to("boss"), _to("role:summarise")))
        commit = "select * from commit_turn($1::jsonb)"
        check(await plans.of(commit, _json(turn)), "deliveries_pkey", "deliveries_open")
        assert plans.rows[0]["status"] == "committed"
        check(await plans.of(commit, _json(turn)), "deliveries_pkey")
        assert plans.rows[0]["status"] == "duplicate"
        check(await plans.of("select * from post_messages($1::jsonb)", _json([_to("boss")])))
    role = f"{seeded.swarm}.{string_to_uuid('writer')}"
    async with explained(seeded, seeded.agent_url("writer"), role) as plans:
        outcome = TaskOutcome(given.id, "completed", Content("done"))
        check(await plans.of(commit, _json(Turn(delivery=work.delivery, attempt=1, outcome=outcome))))
        assert plans.rows[0]["status"] == "committed"


async def test_a_batch_of_the_cleaner_reads_its_batch_and_no_more(seeded: PostgresWorld) -> None:
    ages = _json({"messages": 1, "dead": 1, "tasks": 1, "announcements": 1, "memories_of": {}})
    async with coordinating(seeded) as plans:
        for part in ("messages", "tasks", "unheard"):
            nodes = await plans.of(_SQL["prune"], 1, part, ages, "", 50)
            assert not [node for node in nodes if node["Node Type"] == "Seq Scan" and _is_large(node)]
            assert all(count <= 12 * 50 for count in read(nodes).values()), read(nodes)
        (gone,) = plans.rows
        assert gone["gone"] == "{}"


async def test_a_look_at_the_counts_once_read_every_delivery_there_ever_was(seeded: PostgresWorld) -> None:
    while (await seeded.ledger.prune("tally", Retention(), most=1000)).next:
        pass
    before = await seeded.ledger.stats()
    assert (before["deliveries.handled"], before["deliveries.dead"]) == (HANDLED, HANDLED // 10)
    async with coordinating(seeded) as plans:
        nodes = await plans.of(_SQL["stats"])
    # Dead letters are counted one by one, and so are tasks, by an index each; what was handled is not.
    assert read(nodes)["deliveries"] <= HANDLED // 10 + BOUND, read(nodes)


async def test_the_check_would_see_a_scan_of_all_that_was_handled(seeded: PostgresWorld) -> None:
    async with coordinating(seeded) as plans:
        for reads_all in ("select count(*) from deliveries where room = 'lobby'", "table deliveries"):
            with pytest.raises(AssertionError, match=re.compile("was read|were read")):
                check(await plans.of(reads_all))


def _is_large(node: dict[str, Any]) -> bool:
    return node.get("Relation Name") in LARGE


def _to(address: str) -> Outgoing:
    return message(address, "so", expires_at=now() + 60_000)


def _json(value: Any) -> str:
    return msgspec.json.encode(value).decode()
