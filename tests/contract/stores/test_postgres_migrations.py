"""Migrations: ten starts at once, edited files, failures; and swarms that share a database."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path

import asyncpg
import pytest

from swarm.errors import StoreError
from swarm.ids import new_id
from swarm.records import Content, Outgoing
from swarm.stores.postgres import role_name, schema_name
from swarm.stores.postgres.migrations import Migration, load_migrations, migrate
from tests.contract.store_fixtures import PostgresWorld, administrator, plan

ROOT = Path(__file__).parents[3]


async def test_ten_processes_that_start_at_once_migrate_once(postgres_url: str) -> None:
    swarm = "ten_" + new_id()[-12:]
    program = (
        "import asyncio, sys; from swarm.stores.postgres import PostgresLedger\n"
        "async def main():\n"
        "    ledger = PostgresLedger(sys.stdin.readline().strip(), sys.argv[1])\n"
        "    await ledger.init(); assert await ledger.agents() == []; await ledger.close()\n"
        "asyncio.run(main())"
    )
    started = [
        subprocess.Popen(
            [sys.executable, "-c", program, swarm],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(10)
    ]
    said = await asyncio.gather(*(asyncio.to_thread(p.communicate, postgres_url + "\n", 60) for p in started))
    assert [p.returncode for p in started] == [0] * 10, said
    connection = await asyncpg.connect(postgres_url)
    try:
        versions = await connection.fetch(f'select version from "{swarm}".schema_migrations order by version')
        assert [v["version"] for v in versions] == [m.version for m in load_migrations()]
    finally:
        await connection.close()


async def test_an_edited_or_unknown_migration_is_an_error_that_says_so(postgres_world: PostgresWorld) -> None:
    world = postgres_world
    ours = load_migrations()
    edited = [*ours[:2], ours[2]._replace(sql=ours[2].sql + "\n-- edited"), *ours[3:]]
    async with administrator(world) as admin:
        with pytest.raises(StoreError, match=r"0003_security.sql was edited.*new migration"):
            await migrate(admin, world.swarm, edited)
        with pytest.raises(StoreError, match="newer program"):
            await migrate(admin, world.swarm, ours[:-1])
        assert await migrate(admin, world.swarm, ours) == []


async def test_a_migration_that_fails_leaves_nothing_behind(postgres_world: PostgresWorld) -> None:
    world = postgres_world
    ours = load_migrations()
    more = [
        *ours,
        Migration(len(ours) + 1, "fine", "create table fine ()"),
        Migration(len(ours) + 2, "broken", "create table broken (x nonsense)"),
    ]
    async with administrator(world) as admin:
        with pytest.raises(asyncpg.UndefinedObjectError):
            await migrate(admin, world.swarm, more)
        assert await admin.fetchval("select to_regclass('fine')") is None
        assert await migrate(admin, world.swarm, more[:-1]) == [len(ours) + 1]


async def test_two_swarms_share_a_database_and_nothing_else(
    postgres_world: PostgresWorld, postgres_url: str
) -> None:
    other = PostgresWorld(postgres_url)
    try:
        await other.begin()
        await other.provision(plan("reader"), plan("boss"))
        sent = Outgoing(id=new_id(), to="all", room="r", content=Content("x"))
        assert (await other.store("boss").post([sent]))[0].recipients == ("reader",)
        assert await postgres_world.ledger.waiting() == {}
        assert [a.name for a in await postgres_world.ledger.agents()] == [
            "boss",
            "reader",
            "stranger",
            "writer",
        ]
    finally:
        await other.end()


@pytest.mark.parametrize(
    "name",
    ["survey", "My Swarm", "my-swarm", "my_swarm", "x" * 80, "9lives", "pg_mine", "public", "ÄÖ", '"; drop'],
)
def test_every_swarm_has_a_schema_of_its_own(name: str) -> None:
    schema = schema_name(name)
    assert len(schema) <= 26 and schema.replace("_", "a").isalnum() and schema.isascii()
    assert not schema.startswith("pg_") and schema != "public" and not schema[0].isdigit()
    assert schema_name(name) == schema
    assert len(role_name(name, new_id()).encode()) <= 63
    others = {"survey", "My Swarm", "my-swarm", "my_swarm", "x" * 80, "x" * 81, "9lives"} - {name}
    assert schema not in {schema_name(other) for other in others}
