"""A Postgres for a test session, and a world of agents on any implementation of the store.

Import what you need into a conftest: `postgres_url` (one server a session and worker), `world` (both
implementations with a ledger in turn; with `ON_EVERY_STORE` SQLite too, which has none), `postgres_world`.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import asyncpg
import pytest

from deploy.embedded.postgres import EmbeddedPostgres
from swarm.ids import new_id, string_to_uuid
from swarm.ledger import Ledger
from swarm.records import AgentPermissions, AgentPlan, Content, Dispatch, Memory, NewTask, Outgoing
from swarm.store import Store
from swarm.stores.memory import MemoryDatabase, MemoryStore
from swarm.stores.postgres import PostgresLedger, PostgresStore, agent_url
from swarm.stores.sqlite import SqliteDatabase, SqliteStore
from swarm.stores.sqlite.edge import EdgeBounds, EdgeStore
from tests.containers import postgres_container

CONTROL = AgentPermissions(create_children=True, control_children=True)


def plan(name: str, **changes: object) -> AgentPlan:
    base: dict[str, object] = {"id": string_to_uuid(name), "character": {"name": name}, "version": "1"}
    return AgentPlan(name=name, **(base | changes))  # type: ignore[arg-type]


FAMILY = (
    plan("boss", permissions=CONTROL),
    plan("reader", parent="boss", roles=("summarise", "read")),
    plan(
        "writer",
        parent="boss",
        roles=("summarise",),
        permissions=AgentPermissions(access_parent_memory=False),
    ),
    plan("stranger"),
)


def message(to: str, text: str = "hello", *, room: str = "lobby", **rest: object) -> Outgoing:
    return Outgoing(id=new_id(), to=to, room=room, content=Content(text), **rest)  # type: ignore[arg-type]


def memory(text: str, *, room: str = "lobby", **rest: object) -> Memory:
    return Memory(id=new_id(), room=room, entity="somebody", content=Content(text), **rest)  # type: ignore[arg-type]


def task(child: str, goal: str = "read it", **rest: object) -> NewTask:
    return NewTask(id=new_id(), child=child, goal=goal, **rest)  # type: ignore[arg-type]


def now() -> int:
    return int(time.time() * 1000)


class World:
    """A provisioned swarm. `ledger` holds the lease; more ledgers and stores are opened here and closed with it."""

    ledger: Ledger

    def __init__(self) -> None:
        self._opened: list[Store | Ledger] = []
        self._stores: dict[str, Store] = {}

    async def begin(self) -> None:
        self.ledger = self.another_ledger()
        await self.ledger.init()
        await self.provision(*FAMILY)
        assert await self.ledger.take_lease("test", 600.0) == 1

    async def provision(self, *plans: AgentPlan) -> None:
        await self.ledger.provision(plans, {p.name: self.password(p.name) for p in plans})

    @staticmethod
    def password(name: str) -> str:
        return f"password of {name}"

    def store(self, name: str) -> Store:
        """The one store of this agent."""
        if name not in self._stores:
            self._stores[name] = self.another_store(name)
        return self._stores[name]

    def another_store(self, name: str) -> Store:
        """As a second instance of the agent has."""
        store = self._open_store(name)
        self._opened.append(store)
        return store

    def another_ledger(self) -> Ledger:
        ledger = self._open_ledger()
        self._opened.append(ledger)
        return ledger

    def _open_store(self, name: str) -> Store:
        raise NotImplementedError

    def _open_ledger(self) -> Ledger:
        raise NotImplementedError

    async def end(self) -> None:
        for opened in self._opened:
            await opened.close()

    async def waiting(self) -> dict[str, int]:
        """Agent → how many messages wait for it."""
        return await self.ledger.waiting()

    async def claim(self, agent: str, most: int = 100) -> list[Dispatch]:
        return await self.ledger.claim({agent: most})

    async def claim_texts(self, agent: str) -> list[str]:
        return [d.content.text for d in await self.claim(agent)]


class MemoryWorld(World):
    def __init__(self) -> None:
        super().__init__()
        self.database = MemoryDatabase()

    def _open_store(self, name: str) -> MemoryStore:
        return self.database.store(name)

    def _open_ledger(self) -> Ledger:
        return self.database.ledger()


class PostgresWorld(World):
    def __init__(self, url: str) -> None:
        super().__init__()
        self.url = url
        self.swarm = "test_" + secrets.token_hex(6)

    def agent_url(self, name: str) -> str:
        return agent_url(self.url, self.swarm, string_to_uuid(name), self.password(name))

    def _open_store(self, name: str) -> PostgresStore:
        return PostgresStore(self.agent_url(name), self.swarm, name, string_to_uuid(name))

    def _open_ledger(self) -> PostgresLedger:
        return PostgresLedger(self.url, self.swarm)


class SqliteWorld(World):
    """Agents in one file, each of them alone. It has no ledger: what is asked of it here is an AttributeError,
    so a test whose promise needs a second agent (recipients, deliveries, tasks) cannot run here by mistake.
    What a store answers to those calls, alone, is in test_alone.py."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.database = SqliteDatabase(path)

    async def begin(self) -> None:
        await self.provision(*FAMILY)

    async def provision(self, *plans: AgentPlan) -> None:
        await self.database.provision(plans)

    async def waiting(self) -> dict[str, int]:
        return {}  # nobody else is there who could have mail

    def _open_store(self, name: str) -> SqliteStore:
        return SqliteStore(self.database, name, string_to_uuid(name))

    async def end(self) -> None:
        await super().end()
        await self.database.close()


class EdgeWorld(SqliteWorld):
    """The same with the store of the edge. Its bounds are tested in test_edge_store.py; here they are far."""

    def _open_store(self, name: str) -> EdgeStore:
        bounds = EdgeBounds(max_memories=100_000, outbox_size=0)
        return EdgeStore(self.database, name, string_to_uuid(name), bounds, owner=False)


@contextlib.asynccontextmanager
async def administrator(world: PostgresWorld) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(world.url, server_settings={"search_path": world.swarm})
    try:
        yield connection
    finally:
        await connection.close()


@pytest.fixture(scope="session")
def postgres_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedPostgres]:
    folder: Path = tmp_path_factory.mktemp("postgres")
    server = EmbeddedPostgres(folder, settings={"max_connections": "100"})
    loop = asyncio.new_event_loop()
    try:
        loop.run_until_complete(server.start())
        yield server
    finally:
        loop.run_until_complete(server.stop())
        loop.close()


@pytest.fixture(scope="session")
def postgres_url(request: pytest.FixtureRequest) -> str:
    """SWARM_TEST_STORE_URL (a user who may create roles), else an embedded server."""
    given = os.environ.get("SWARM_TEST_STORE_URL")
    return given or request.getfixturevalue("postgres_server").url


@pytest.fixture(scope="session")
def container_url() -> Iterator[str]:
    with postgres_container() as url:
        yield url


LEDGERS = ["memory", "postgres", pytest.param("container", marks=pytest.mark.containers)]
ON_EVERY_STORE = pytest.mark.parametrize("world_url", ["sqlite", "edge", *LEDGERS], indirect=True)


@pytest.fixture
def edge_url(tmp_path: Path) -> str:
    return f"edge:{tmp_path / 'agents.db'}"


@pytest.fixture
def sqlite_url(tmp_path: Path) -> str:
    return f"sqlite:{tmp_path / 'agents.db'}"


@pytest.fixture(params=LEDGERS)
def world_url(request: pytest.FixtureRequest) -> str | None:
    """None for memory. Not async: the server starts in a loop of its own."""
    return request.getfixturevalue(f"{request.param}_url") if request.param != "memory" else None


@pytest.fixture
async def world(world_url: str | None) -> AsyncIterator[World]:
    made: World
    if world_url is None:
        made = MemoryWorld()
    elif world_url.startswith("sqlite:"):
        made = SqliteWorld(Path(world_url.removeprefix("sqlite:")))
    elif world_url.startswith("edge:"):
        made = EdgeWorld(Path(world_url.removeprefix("edge:")))
    else:
        made = PostgresWorld(world_url)
    try:
        await made.begin()
        yield made
    finally:
        await made.end()


@pytest.fixture
async def postgres_world(postgres_url: str) -> AsyncIterator[PostgresWorld]:
    made = PostgresWorld(postgres_url)
    try:
        await made.begin()
        yield made
    finally:
        await made.end()
