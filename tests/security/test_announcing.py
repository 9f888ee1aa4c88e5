"""An agent with its own SQL and none of our code: it announces no more than it may, and handles nobody's mail."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import msgspec
import pytest

from swarm.bounds import MailBounds
from swarm.ids import new_id, string_to_uuid
from swarm.records import AgentPermissions
from tests.contract.store_fixtures import FAMILY, PostgresWorld, postgres_server, postgres_url, postgres_world

__all__ = ["postgres_server", "postgres_url", "postgres_world"]

Raw = asyncpg.Connection


@pytest.fixture
async def mute(postgres_world: PostgresWorld) -> AsyncIterator[Raw]:
    """A raw connection of the stranger, who may not announce; reader's inbox holds one message."""
    world = postgres_world
    plans = {p.name: p for p in FAMILY}
    plans["stranger"] = msgspec.structs.replace(
        plans["stranger"], permissions=AgentPermissions(announce=False)
    )
    plans["reader"] = msgspec.structs.replace(plans["reader"], bounds=MailBounds(inbox_messages=1))
    passwords = {name: world.password(name) for name in plans}
    await world.ledger.provision(list(plans.values()), passwords, groups={"press": ["reader", "writer"]})
    connection = await asyncpg.connect(
        world.agent_url("stranger"), server_settings={"search_path": world.swarm}
    )
    yield connection
    await connection.close()


def said(to: str, kind: str = "tell") -> dict[str, Any]:
    return {"id": new_id(), "to": to, "room": "r", "kind": kind, "content": {"text": "x"}}


async def test_who_may_not_announce_reaches_nobody_whatever_it_calls_it(
    postgres_world: PostgresWorld, mute: Raw
) -> None:
    for one in (said("all"), said("all", "announce"), said("group:press"), said("writer", "announce")):
        row = await mute.fetchrow("select names, refused from post_messages($1::jsonb)", json.dumps([one]))
        assert row["names"] == [] and row["refused"].startswith("announce_right: stranger may not announce")
    turn = {"delivery": None, "memories": [], "outgoing": [said("all"), said("writer")]}
    row = await mute.fetchrow("select status, dead from commit_turn($1::jsonb)", json.dumps(turn))
    assert row["status"] == "committed" and len(row["dead"]) == 1
    assert (await postgres_world.ledger.waiting()).get("writer") == 1, "the tell of the same turn went"
    assert set(await postgres_world.ledger.waiting()) == {"writer", "stranger"}, "and a notice to itself"


async def test_a_bound_holds_for_raw_sql_too(postgres_world: PostgresWorld, mute: Raw) -> None:
    await mute.execute("select ids from post_messages($1::jsonb)", json.dumps([said("reader")]))
    with pytest.raises(asyncpg.PostgresError) as caught:
        await mute.execute("select ids from post_messages($1::jsonb)", json.dumps([said("reader")]))
    assert caught.value.sqlstate == "SW030"
    assert (await postgres_world.ledger.inbox("reader")).waiting == 1


@pytest.mark.parametrize(
    "statement",
    [
        "update agents set announce = true",
        "update agents set inbox_messages = 1000000",
        "insert into groups values ('mine', '{me}')",
        "delete from groups",
        "select * from inbox_counts",
        "select count_inbox('{me}', -1000, 0, 0)",
        "update inbox_counts set messages = 0",
        "select * from dead_letters",
        "select * from dead_list",
        "select requeue_dead_letter(1, 1, '{me}', 'me')",
        "select drop_dead_letter(1, 1, 'me')",
        "select accept_messages('{me}', '[]', true, null)",
        "select end_aged(1)",
        "select provision_bounds('[]')",
        "select provision_groups('{{}}')",
    ],
)
async def test_nobody_grants_itself_room_or_a_right(mute: Raw, statement: str) -> None:
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await mute.execute(statement.format(me=string_to_uuid("stranger")))
