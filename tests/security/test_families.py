"""A hostile child with its own database password and none of our code: what the hierarchy refuses it.

`apprentice` was spawned by `boss`; every test speaks SQL on a raw connection with its role.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator

import asyncpg
import pytest

from swarm.ids import new_id, string_to_uuid
from swarm.records import NewChild
from swarm.stores.postgres import role_name
from swarm.stores.postgres.roles import verifier
from tests.contract.store_fixtures import (
    PostgresWorld,
    memory,
    postgres_server,
    postgres_url,
    postgres_world,
)

__all__ = ["postgres_server", "postgres_url", "postgres_world"]

Raw = asyncpg.Connection
APPRENTICE, BOSS = string_to_uuid("apprentice"), string_to_uuid("boss")


@pytest.fixture
async def apprentice(postgres_world: PostgresWorld) -> AsyncIterator[Raw]:
    world = postgres_world
    born = NewChild(name="apprentice", id=APPRENTICE, character={"name": "apprentice"}, version="1")
    await world.ledger.spawn("boss", born)
    role = role_name(world.swarm, APPRENTICE)
    await world.ledger.set_verifier(APPRENTICE, verifier(role, world.password("apprentice")))
    connection = await asyncpg.connect(
        world.agent_url("apprentice"), server_settings={"search_path": world.swarm}
    )
    yield connection
    await connection.close()


async def refused(connection: Raw, statement: str, *arguments: object) -> None:
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await connection.execute(statement, *arguments)


async def test_a_spawned_child_has_no_login_before_its_node_has_made_one(
    postgres_world: PostgresWorld,
) -> None:
    born = NewChild(name="apprentice", id=APPRENTICE, character={"name": "apprentice"}, version="1")
    await postgres_world.ledger.spawn("boss", born)
    with pytest.raises(asyncpg.InvalidPasswordError):
        await asyncpg.connect(postgres_world.agent_url("apprentice"))


async def test_nobody_makes_children_removes_them_or_changes_rights_by_sql(apprentice: Raw) -> None:
    child = json.dumps({"id": new_id(), "name": "mine", "version": "1", "character": {}})
    for call in (
        f"select spawn_child(1, 'boss', '{child}')",
        f"select spawn_child(1, 'apprentice', '{child}')",
        "select permit(1, 'apprentice', '{\"control_children\": true}')",
        "select command_child(1, 'boss', 'reader', 'stopped')",
        "select remove_child(1, null, 'boss')",
        "select settle_death(1, 'boss')",
        "select settle_return(1, 'boss')",
        "select settle_rights()",
        "select check_hierarchy()",
        f"select set_verifier(1, '{BOSS}', 'SCRAM-SHA-256$4096:x$y:z')",
        "select require_control('boss', 'reader')",
        "select reject_without_authority()",
        "update limits set depth = 100",
        "select from limits",
        f"update spawned set born_of = '{APPRENTICE}'",
        "delete from spawned",
        f"insert into spawned (agent, born_of, version) values ('{BOSS}', '{APPRENTICE}', '1')",
        f"update agents set granted = '{{\"create_children\": true}}' where id = '{APPRENTICE}'",
        f'create role "{new_id()}" login',
    ):
        await refused(apprentice, call)


async def test_f13_a_right_that_is_taken_blinds_a_connection_that_is_open_on_every_path(
    postgres_world: PostgresWorld, apprentice: Raw
) -> None:
    remembered = memory("the safe is behind the picture")
    boss = postgres_world.store("boss")
    await boss.create_memory(remembered)
    await boss.set_embeddings("m", {remembered.id: [1.0, 0.0]})
    by_id = "select count(*) from memories where agent = $1 and id = $2"
    paths: tuple[tuple[str, tuple[object, ...]], ...] = (
        ("select count(*) from memories", ()),
        (by_id, (BOSS, remembered.id)),
        ("select count(*) from memories where words @@ to_tsquery('simple', 'safe')", ()),
        ("select count(*) from embeddings", ()),
        ("select count(*) from unnest(readable()) as r (agent) where agent = $1", (BOSS,)),
    )
    assert [await apprentice.fetchval(sql, *arguments) for sql, arguments in paths] == [1] * 5
    await postgres_world.ledger.permit("apprentice", {"access_parent_memory": False})
    assert [await apprentice.fetchval(sql, *arguments) for sql, arguments in paths] == [0] * 5


async def test_a_removed_childs_password_opens_nothing(
    postgres_world: PostgresWorld, apprentice: Raw
) -> None:
    await postgres_world.ledger.remove_child("boss", "apprentice")
    with pytest.raises(asyncpg.InvalidAuthorizationSpecificationError):
        await asyncpg.connect(postgres_world.agent_url("apprentice"))
