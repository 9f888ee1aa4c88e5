"""Making room for a copy of a swarm: what a dump of its schema takes for granted, and does not hold."""

from __future__ import annotations

import asyncpg

from swarm.errors import StoreDown, StoreError
from swarm.stores.postgres.names import agents_role, identifier, schema_name
from swarm.stores.queries import load


async def make_room(url: str, swarm: str) -> None:
    """Make the role of which all agents of `swarm` are members, unless it is there. Raises StoreError when the
    swarm's schema is there: a copy overwrites nothing; StoreDown when the database does not answer."""
    sql, schema = load("restoring.sql"), schema_name(swarm)
    try:
        connection = await asyncpg.connect(url, timeout=10)
    except (OSError, TimeoutError) as error:
        raise StoreDown(f"The database cannot be reached: {error}") from error
    try:
        if await connection.fetchval(sql["is_taken"], schema):
            raise StoreError(
                f"The database has a swarm {swarm} already, and a copy overwrites nothing: restore into an empty "
                "database, or move `.swarm/postgres` away first.",
                reason="not_empty",
            )
        role = agents_role(schema)
        if not await connection.fetchval(sql["has_role"], role):
            await connection.execute(sql["make_role"].replace(':"agents"', identifier(role)))
    finally:
        await connection.close()
