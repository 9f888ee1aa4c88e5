"""How a database is, looked at without changing it: what `swarm doctor` asks."""

from __future__ import annotations

from typing import Final, NamedTuple

import asyncpg

from swarm.errors import StoreDown, StoreError
from swarm.stores.postgres.migrations import check, load_migrations
from swarm.stores.postgres.names import identifier, schema_name
from swarm.stores.queries import load

CONNECT_SECONDS: Final = 3.0


class Condition(NamedTuple):
    """`clock` is the database's, in Unix seconds, when the answer came. `trouble` is a sentence about a schema that
    this program cannot work with, `pending` the migrations that are not applied yet, such as ``0003_security``."""

    server: str
    clock: float
    applied: int
    pending: tuple[str, ...]
    trouble: str
    connections: int
    most_connections: int


async def examine(url: str, swarm: str) -> Condition:
    """Raises StoreDown when nobody answers, StoreError when the server refuses."""
    sql = load("condition.sql")
    schema = schema_name(swarm)
    try:
        connection = await asyncpg.connect(
            url,
            timeout=CONNECT_SECONDS,
            command_timeout=CONNECT_SECONDS,
            server_settings={"search_path": identifier(schema)},
        )
    except (OSError, TimeoutError) as error:
        raise StoreDown(f"{error or 'no answer'}") from error
    except (asyncpg.PostgresError, asyncpg.InterfaceError) as error:
        raise StoreError(str(error)) from error
    try:
        applied: dict[int, str] = {}
        if await connection.fetchval(sql["has_migrations"]):
            applied = {row["version"]: row["checksum"] for row in await connection.fetch(sql["applied"])}
        server = await connection.fetchrow(sql["server"])
    finally:
        await connection.close()
    assert server is not None
    migrations, trouble = load_migrations(), ""
    try:
        check(schema, applied, migrations)
    except StoreError as error:
        trouble = str(error)
    return Condition(
        server=server["version"],
        clock=server["clock"],
        applied=len(applied),
        pending=tuple(f"{m.version:04d}_{m.name}" for m in migrations if m.version not in applied),
        trouble=trouble,
        connections=server["connections"],
        most_connections=server["most_connections"],
    )
