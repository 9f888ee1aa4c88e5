"""Texts in the shape of SQL, and worse, in every field that an agent may fill: kept as they are, or refused."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import pytest

from swarm.ids import new_id
from tests.contract.store_fixtures import (
    PostgresWorld,
    administrator,
    memory,
    message,
    postgres_server,
    postgres_url,
    postgres_world,
    task,
)

__all__ = ["postgres_server", "postgres_url", "postgres_world"]

Raw = asyncpg.Connection
SHAPES = (
    "'; drop table messages cascade; --",
    "' or '1'='1",
    "x'); select pg_sleep(60); --",
    '"; set role postgres; --',
    "$$; delete from memories; $$",
    "\\'; truncate deliveries; --",
    "{boss}",
    "%s %(x)s $1 :name ?",
    "all'--",
    "1e400",
    "\u2028\u202e’ or 1=1",
    "<script>alert(1)</script>",
)


@pytest.fixture
async def boss(postgres_world: PostgresWorld) -> AsyncIterator[Raw]:
    connection = await asyncpg.connect(
        postgres_world.agent_url("boss"),
        server_settings={"search_path": postgres_world.swarm},
        command_timeout=5,
    )
    yield connection
    await connection.close()


async def tables(world: PostgresWorld) -> list[tuple[str, int]]:
    async with administrator(world) as admin:
        names = await admin.fetch("select tablename from pg_tables where schemaname = $1", world.swarm)
        return sorted(
            [(r["tablename"], await admin.fetchval(f"select count(*) from {r['tablename']}")) for r in names]
        )


async def test_by_raw_calls_every_field_is_a_value_and_never_a_statement(
    postgres_world: PostgresWorld, boss: Raw
) -> None:
    before = dict(await tables(postgres_world))
    for shape in SHAPES:
        await _pressed_into_every_field(boss, shape)
    after = dict(await tables(postgres_world))
    assert after.keys() == before.keys()
    assert all(after[name] >= number for name, number in before.items()), "nothing was deleted"


async def _pressed_into_every_field(boss: Raw, shape: str) -> None:
    said = {"id": new_id(), "to": "reader", "room": "r", "kind": "tell", "content": {"text": shape}}
    given = {"id": new_id(), "child": "reader", "goal": shape, "input": {shape: shape}}
    calls: list[tuple[str, Any]] = [
        ("select * from post_messages($1)", [said | {field: shape}])
        for field in (
            "id",
            "to",
            "room",
            "kind",
            "in_reply_to",
            "origin",
            "traceparent",
            "hops",
            "expires_at",
        )
    ]
    calls += [
        ("select * from delegate_tasks($1)", [given | {field: shape}])
        for field in ("id", "child", "parent_task", "deadline", "traceparent", "max_attempts")
    ]
    calls += [
        ("select * from commit_turn($1)", {"delivery": None, field: shape})
        for field in ("delivery", "attempt", "instance", "memories", "outgoing", "outcome", "tasks")
    ]
    refused = 0
    for statement, argument in calls:
        try:
            await boss.fetch(statement, json.dumps(argument))
        except asyncpg.PostgresError as error:
            refused += 1
            assert error.sqlstate[:2] not in ("XX", "57", "58"), (statement, argument, error)
    assert refused >= 3, "an id, a moment and a number are none of these"
    assert str(await boss.fetchval("select session_user")) == str(await boss.fetchval("select current_user"))


async def test_what_is_kept_is_kept_as_it_is_and_found_by_nobody_else(
    postgres_world: PostgresWorld,
) -> None:
    for shape in SHAPES:
        await _kept_and_found(postgres_world, shape)


async def _kept_and_found(world: PostgresWorld, shape: str) -> None:
    boss, stranger = world.store("boss"), world.store("stranger")
    remembered = memory(shape, room=shape, kind="note")
    await boss.create_memory(remembered)
    await boss.post([message("reader", shape, room=shape)])
    await boss.delegate([task("reader", shape, input={shape: [shape]})])
    texts = {d.content.text for d in await world.claim("reader")}
    assert texts == {shape}
    assert [m.content.text for m in await boss.get_memories(room=shape)] == [shape]
    assert await boss.count_memories(room=shape) == 1
    if found := await boss.search_memories(text=shape):  # a text of marks alone has no words to find
        assert shape in {one.memory.content.text for one in found}
    assert await stranger.search_memories(text=shape) == []
    assert await stranger.count_memories(room=shape) == 0
