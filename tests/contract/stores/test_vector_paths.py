"""The two ways to the nearest memories on a real Postgres: pgvector where the database has it, here where not (X4).

The server that comes with us brings the extension, which only a superuser may create. So a swarm set up by
a superuser has it, and one set up by a role like those of most hosted databases (it owns its database and
may make roles, no more) has to do without. Nothing is pretended: both are databases of the same server.
"""

from __future__ import annotations

import random
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import pytest

from swarm.ids import derived_id
from swarm.records import Content, Found, Memory, Turn
from swarm.stores.postgres import PostgresStore
from swarm.stores.postgres.names import identifier
from tests.contract.store_fixtures import PostgresWorld

DIMENSIONS = 24
WORDS = ("apple", "pear", "bridge", "lantern", "harvest", "copper")


@pytest.fixture
async def with_extension(postgres_url: str) -> AsyncIterator[PostgresWorld]:
    async with a_world(await a_database(postgres_url, superuser=True)) as world:
        yield world


@pytest.fixture
async def without_extension(postgres_url: str) -> AsyncIterator[PostgresWorld]:
    async with a_world(await a_database(postgres_url, superuser=False)) as world:
        yield world


async def a_database(server: str, *, superuser: bool) -> str:
    """The URL of a new database, for a new role that owns it. It stays, as the schemas of other tests do: to drop
    one makes the server write a checkpoint, for which a busy machine takes seconds."""
    name, password = f"vectors_{secrets.token_hex(6)}", secrets.token_hex(8)
    rights = "superuser" if superuser else "createrole nosuperuser"
    admin = await asyncpg.connect(server)
    try:
        await admin.execute(f"create role {identifier(name)} login {rights} password '{password}'")
        await admin.execute(f"create database {identifier(name)} owner {identifier(name)}")
        parts = urlsplit(server)
        host = parts.netloc.rpartition("@")[2]
        return urlunsplit((parts.scheme, f"{name}:{password}@{host}", f"/{name}", parts.query, ""))
    finally:
        await admin.close()


@asynccontextmanager
async def a_world(url: str) -> AsyncIterator[PostgresWorld]:
    world = PostgresWorld(url)
    try:
        await world.begin()
        yield world
    finally:
        await world.end()


async def extension(world: PostgresWorld) -> list[str]:
    connection = await asyncpg.connect(world.url)
    try:
        return [row[0] for row in await connection.fetch("select extname from pg_extension")]
    finally:
        await connection.close()


def way(store: PostgresStore) -> str:
    """How the last search by embedding went, as the store itself has noted."""
    assert store._search._nearest is not None, "no search by embedding yet"
    return "pgvector" if store._search._nearest else "here"


async def remember(store: PostgresStore) -> None:
    """300 memories that are the same whoever asks for them, 240 of them with an embedding of the model m."""
    dice = random.Random(7)
    memories, vectors = [], {}
    for number in range(300):
        one = Memory(
            id=derived_id("vector", str(number)),
            room=f"room {number % 3}",
            entity="somebody",
            kind=("message", "fact")[number % 2],
            content=Content(" ".join(dice.choices(WORDS, k=4))),
            created_at=1000 + number,
        )
        memories.append(one)
        vector = [dice.gauss(0, 1) for _ in range(DIMENSIONS)]
        if number % 5:
            vectors[one.id] = vector
    await store.commit(Turn(delivery=None, memories=tuple(memories)))
    await store.set_embeddings("m", vectors)


async def answers(store: PostgresStore) -> list[list[Found]]:
    dice = random.Random(11)
    found = []
    for query in ({}, {"room": "room 1"}, {"kind": "fact"}, {"text": "copper lantern"}, {"min_score": 0.3}):
        vector = [dice.gauss(0, 1) for _ in range(DIMENSIONS)]
        found.append(await store.search_memories(embedding=vector, model="m", limit=25, **query))  # type: ignore[arg-type]
    return found


async def test_x4_both_ways_find_the_same_with_the_extension_and_without(
    with_extension: PostgresWorld, without_extension: PostgresWorld
) -> None:
    assert "vector" in await extension(with_extension)
    assert "vector" not in await extension(without_extension)
    results = []
    for world, expected in ((with_extension, "pgvector"), (without_extension, "here")):
        store = world.store("reader")
        assert isinstance(store, PostgresStore)
        await remember(store)
        results.append(await answers(store))
        assert way(store) == expected
    for there, here in zip(*results, strict=True):
        assert len(there) >= 5
        assert [one.memory for one in there] == [one.memory for one in here]
        assert [one.score for one in there] == pytest.approx(
            [one.score for one in here], abs=2e-6
        )  # of float4


async def test_x4_a_database_that_gets_the_extension_later_uses_it_and_loses_nothing(
    postgres_url: str, without_extension: PostgresWorld
) -> None:
    world = without_extension
    store = world.store("reader")
    assert isinstance(store, PostgresStore)
    await remember(store)
    before = await answers(store)
    admin = await asyncpg.connect(_as_superuser(postgres_url, world.url))
    try:
        await admin.execute("create extension vector with schema public")
    finally:
        await admin.close()
    again = world.another_store("reader")
    assert isinstance(again, PostgresStore)
    after = await answers(again)
    assert (way(store), way(again)) == ("here", "pgvector")
    assert [[one.memory for one in found] for found in after] == [
        [one.memory for one in found] for found in before
    ]


def _as_superuser(server: str, database_url: str) -> str:
    parts = urlsplit(server)
    return urlunsplit((parts.scheme, parts.netloc, urlsplit(database_url).path, parts.query, ""))
