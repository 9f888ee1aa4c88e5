"""Numbered migrations: each applied once, in order, all pending ones in one transaction under one lock.

`schema_migrations` remembers a checksum of each, so that an edited old migration is an error and not a
database that differs from what its files say. Any number of processes may start at once: one applies,
the others wait for the lock and find nothing to do.
"""

from __future__ import annotations

import logging
import re
from hashlib import sha256
from importlib.resources import files
from typing import Any, NamedTuple

import asyncpg

from swarm.errors import StoreError
from swarm.stores.postgres.names import agents_role, identifier

log = logging.getLogger(__name__)

_FILE = re.compile(r"(\d{4})_(\w+)\.sql")
MINIMUM = 150_000  # security_invoker views


class Migration(NamedTuple):
    version: int
    name: str
    sql: str

    @property
    def checksum(self) -> str:
        return sha256(self.sql.encode()).hexdigest()


def load_migrations() -> list[Migration]:
    """The migrations of this program in order. Raises ValueError unless they are numbered 1, 2, 3 …"""
    found = []
    for entry in (files("swarm") / "sql" / "migrations").iterdir():
        if match := _FILE.fullmatch(entry.name):
            found.append(Migration(int(match[1]), match[2], entry.read_text("utf-8")))
    found.sort()
    if [m.version for m in found] != list(range(1, len(found) + 1)):
        raise ValueError("the migrations are not numbered 1, 2, 3 …")
    return found


async def migrate(connection: asyncpg.Connection[Any], schema: str, migrations: list[Migration]) -> list[int]:
    """Bring `schema` up to date and return the versions applied now.

    Raises StoreError when an applied migration was edited since, or the database is newer than we are.
    """
    version = connection.get_server_version()
    if (number := int(await connection.fetchval("show server_version_num"))) < MINIMUM:
        raise StoreError(
            f"Postgres {version.major} ({number}) is too old; the store needs 15 or newer.",
            reason="old_server",
        )
    quoted = identifier(schema)
    async with connection.transaction():
        await connection.execute(
            "select pg_advisory_xact_lock(hashtextextended('swarm migrations ' || $1, 0))", schema
        )
        if not await connection.fetchval(
            "select exists (select from pg_namespace where nspname = $1)", schema
        ):
            await connection.execute(f"create schema {quoted}")
        await connection.execute(f"set local search_path to {quoted}, pg_temp")
        await connection.execute(
            "create table if not exists schema_migrations (version integer primary key, name text not null,"
            " checksum text not null, applied_at timestamptz not null default now())"
        )
        applied = {
            row["version"]: row["checksum"]
            for row in await connection.fetch("select version, checksum from schema_migrations")
        }
        check(schema, applied, migrations)
        done = []
        for migration in migrations:
            if migration.version in applied:
                continue
            log.info("migrating %s: %04d %s", schema, migration.version, migration.name)
            sql = migration.sql.replace(':"schema"', quoted).replace(
                ':"agents"', identifier(agents_role(schema))
            )
            await connection.execute(sql)
            await connection.execute(
                "insert into schema_migrations (version, name, checksum) values ($1, $2, $3)",
                migration.version,
                migration.name,
                migration.checksum,
            )
            done.append(migration.version)
    return done


def check(schema: str, applied: dict[int, str], migrations: list[Migration]) -> None:
    """Raises StoreError when what was applied is not what we know, or more than we know."""
    ours = {m.version: m for m in migrations}
    for version, checksum in sorted(applied.items()):
        if version not in ours:
            raise StoreError(
                f"The schema {schema} is at migration {version}, which this program does not know; "
                "run the newer program.",
                reason="newer_schema",
            )
        if ours[version].checksum != checksum:
            raise StoreError(
                f"Migration {version:04d}_{ours[version].name}.sql was edited after it was applied to {schema}; "
                "undo the edit and put the change into a new migration.",
                reason="edited_migration",
            )
